// The threads of `in_turn`: they wait for work beside the thread that calls, and end with it.
//
// Not OpenMP's: there a thread that has nothing to do spins for milliseconds, and whoever called
// waits at the end for threads that have not begun. Where other processes want the cores too both
// cost many times what the work takes. Here tasks are claimed: the thread that calls begins at once
// and waits, when no task is left, for those tasks alone that others are at. Who waits spins for
// some microseconds, so that the next loop of a round finds its threads awake, and sleeps then.
#pragma once

#include <cstdint>

namespace fedfast {

// Does task i of what `context` points to. It must not throw.
using TeamTask = void (*)(const void* context, int64_t i);

// The number of this thread among those that are at a loop: 0 the one that called.
int team_number();

// Calls task(context, i) for each i of [0, tasks) once, on up to `threads` threads, this one among
// them. Called from within a task it runs all on this thread. What tasks wrote can be read then.
void run_on_team(int threads, int64_t tasks, TeamTask task, const void* context);

}  // namespace fedfast
