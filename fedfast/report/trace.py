"""A profile as a trace: JSON in Chrome's trace event format, which Perfetto opens.

Complete events ("X") nest by time on their thread: round, phase, operation. The format is Google's
"Trace Event Format" (2016).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..files import atomic
from ..phases import PHASES, Profile

FIRST_TRACK = 1 << 23  # beyond the ids of threads
Event = dict[str, object]
Entry = tuple[str, str, int, int, int, dict[str, str]]  # name, kind, thread, begin, end, args


class Other(NamedTuple):
    """A call that torch's profiler has seen: an operator, or a GPU's kernel."""

    name: str
    track: str
    begin: int  # ns of `time.perf_counter_ns`
    end: int


def events(profile: Profile, process: str, others: Sequence[Other] = ()) -> list[Event]:
    """The trace events of a profile, names first; times in microseconds from its first event on.

    process  what the whole is called
    """
    spans: list[Entry] = [
        (s.name, "phase" if s.name in PHASES else "round", *s[1:], {}) for s in profile.spans
    ]
    calls: list[Entry] = [
        (c.name, "operation", c.thread, c.begin, c.end, {"phase": _phase(c.phase, c.under)})
        for c in profile.calls
    ]
    different = dict.fromkeys(o.track for o in others)
    tracks = {track: FIRST_TRACK + i for i, track in enumerate(different)}
    theirs: list[Entry] = [(o.name, "torch", tracks[o.track], o.begin, o.end, {}) for o in others]
    every = [*spans, *calls, *theirs]
    zero = min((begin for *_, begin, _, _ in every), default=0)
    threads = dict.fromkeys([profile.thread, *(thread for _, _, thread, *_ in every)])
    names = {profile.thread: "main", **{number: track for track, number in tracks.items()}}
    made = [_named("process_name", 0, process)]
    for i, thread in enumerate(threads):
        made.append(_named("thread_name", thread, names.get(thread, f"thread {i}")))
    return made + [
        _complete(name, kind, thread, begin - zero, end - begin, args)
        for name, kind, thread, begin, end, args in sorted(every, key=lambda e: (e[3], -e[4]))
    ]


def write(
    profile: Profile,
    path: Path,
    process: str,
    about: dict[str, object],
    others: Sequence[Other] = (),
) -> None:
    """The trace as a file, in one piece; `about` is said in its otherData.

    Raises OSError naming the path where it cannot be written.
    """
    whole = {
        "traceEvents": events(profile, process, others),
        "displayTimeUnit": "ms",
        "otherData": {**about, "operations": list(operations(profile))},
    }
    atomic(path, lambda to: to.write_text(json.dumps(whole, separators=(",", ":"))))


def operations(profile: Profile) -> Iterator[Event]:
    """Every operation with its calls and the seconds of all threads in it, the longest first."""
    sums: dict[tuple[str, str], list[int]] = {}
    for t in profile.totals:
        held = sums.setdefault((t.name, _phase(t.phase, t.under)), [0, 0])
        held[0] += t.calls
        held[1] += t.nanoseconds
    for (name, where), (calls, taken) in sorted(sums.items(), key=lambda kv: -kv[1][1]):
        if name != "plan":
            yield {"name": name, "phase": where, "calls": calls, "seconds": taken / 1e9}


def _phase(phase: int, under: int) -> str:
    at = phase if phase >= 0 else under
    return PHASES[at] if at >= 0 else ""


def _named(what: str, thread: int, name: str) -> Event:
    return {"ph": "M", "pid": 1, "tid": thread, "name": what, "args": {"name": name}}


def _complete(
    name: str, kind: str, thread: int, begin: int, taken: int, args: dict[str, str]
) -> Event:
    return {
        "ph": "X",
        "pid": 1,
        "tid": thread,
        "name": name,
        "cat": kind,
        "ts": begin / 1e3,
        "dur": taken / 1e3,
        "args": args,
    }
