"""What a machine gives at the moment: a large product and a large copy, timed beside a benchmark.

A time in units of its yardstick hardly changes with the machine or with what else runs on it; see
`compare.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from sizes import pick

SIDE, COPIED, REPEATS = pick(1024, 16), pick(2**24, 2**8), 3

Seconds = dict[str, list[float]]


@functools.cache
def _actions() -> dict[str, tuple[float, Callable[[], object]]]:
    """Name -> (work, action): floating-point operations, or bytes read and written."""
    a, b, product = (torch.rand(SIDE, SIDE) for _ in range(3))
    source, target = torch.ones(COPIED), torch.zeros(COPIED)
    return {
        "sgemm": (2.0 * SIDE**3, lambda: torch.mm(a, b, out=product)),
        "copy": (8.0 * COPIED, lambda: target.copy_(source)),
    }


def seconds(timer: Callable[[], float]) -> Seconds:
    """Seconds of some repetitions of each by `timer`, on torch's present number of threads."""
    found: Seconds = {}
    for name, (_, action) in _actions().items():
        action()
        stops = [timer()]
        for _ in range(REPEATS):
            action()
            stops.append(timer())
        found[name] = [b - a for a, b in zip(stops, stops[1:], strict=False)]
    return found


def rates(before: Mapping[str, Sequence[float]], after: Seconds) -> dict[str, dict[str, float]]:
    """Work per second, the best and the median of both: {"sgemm": {"best": ..., "median": ...}}."""
    found = {}
    for name, (work, _) in _actions().items():
        spent = [*before[name], *after[name]]
        found[name] = {"best": digits(work / min(spent)), "median": digits(work / median(spent))}
    return found


def digits(value: float) -> float:
    """Rounded to four."""
    return float(f"{value:.4g}")
