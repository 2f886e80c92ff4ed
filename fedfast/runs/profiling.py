"""`fedfast run --profile`: a trace of a label's rounds in the run folder, profile/LABEL.json.

Phases and native operations are timed by fedfast itself. Where a module is run by autograd, or a
GPU works, torch's profiler adds its operators and kernels in the first rounds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..phases import Profile, recording
from ..report import trace

if TYPE_CHECKING:
    from ..simulation import Simulation

SPANS, CALLS = 100_000, 200_000  # in a trace, some 40 MB: more and Perfetto is slow
TORCH_ROUNDS = 3  # its profiler keeps every operator's call in memory
CLOCK = "fedfast: clock"


class TorchCalls:
    """Operators and kernels that torch's profiler sees until `stop`."""

    def __init__(self) -> None:
        from torch.profiler import ProfilerActivity, profile, record_function

        on_gpu = [ProfilerActivity.CUDA] * torch.cuda.is_available()
        self.found: list[trace.Other] = []
        self._profile: profile | None = profile(activities=[ProfilerActivity.CPU, *on_gpu])
        self._profile.start()
        self._begin = time.perf_counter_ns()
        with record_function(CLOCK):  # its clock is another: this call gives the difference
            pass

    def stop(self) -> None:
        """Keep what was seen; a second call does nothing."""
        if self._profile is None:
            return
        self._profile.stop()
        events = self._profile.profiler.kineto_results.events()  # type: ignore[union-attr]
        self._profile = None
        ahead = next(e.start_ns() for e in events if e.name() == CLOCK) - self._begin
        for e in events:
            if e.name() != CLOCK and e.duration_ns() > 0:
                gpu = e.device_type() != torch.autograd.DeviceType.CPU
                track = f"GPU {e.device_index()}" if gpu else f"torch {e.start_thread_id()}"
                begin = e.start_ns() - ahead
                self.found.append(trace.Other(e.name(), track, begin, begin + e.duration_ns()))


class Profiler:
    """The profile of one label, under way."""

    def __init__(self, sim: Simulation, label: str) -> None:
        self.sim, self.label = sim, label
        self.profile, self.rounds, self.first = Profile(SPANS, CALLS), 0, sim.round + 1
        looks = bool(sim.generic_because) or sim.device.type == "cuda"
        self.torch = TorchCalls() if looks else None

    def round_done(self) -> None:
        """One more."""
        self.rounds += 1
        if self.torch is not None and self.rounds >= TORCH_ROUNDS:
            self.torch.stop()

    def write(self, folder: Path) -> None:
        """profile/LABEL.json; nothing where no round was done."""
        if not self.rounds:
            return
        others = []
        if self.torch is not None:
            self.torch.stop()
            others = self.torch.found
        about = {
            "rounds": f"{self.first} to {self.first + self.rounds - 1}",
            "seconds_of_phases": self.profile.seconds(),
            "complete": len(self.profile.spans) < SPANS and len(self.profile.calls) < CALLS,
        }
        to = folder / "profile" / f"{self.label}.json"
        to.parent.mkdir(exist_ok=True)
        trace.write(self.profile, to, f"fedfast {self.label}", about, others)


def profiling(
    wanted: bool, sim: Simulation, folder: Path, label: str
) -> AbstractContextManager[Profiler | None]:
    """A profiler whose trace is written at the block's end, however that comes."""
    return _profiling(sim, folder, label) if wanted else nullcontext()


@contextmanager
def _profiling(sim: Simulation, folder: Path, label: str) -> Iterator[Profiler]:
    profiler = Profiler(sim, label)
    with ExitStack() as stack:
        stack.callback(profiler.write, folder)
        stack.enter_context(recording(profiler.profile))
        yield profiler
