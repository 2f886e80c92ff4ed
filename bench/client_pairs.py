"""What the benchmarks of pairs of clients share: contests in CPU time, rows of pairs.csv."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from result_files import append, stamp

Action = Callable[[], object]


def seconds(contestants: dict[str, Action], turns: int) -> dict[str, float]:
    """Least CPU seconds of each on one thread; they take turns, after one to warm up."""
    before, spent = torch.get_num_threads(), {name: [] for name in contestants}
    torch.set_num_threads(1)
    try:
        for turn in range(turns + 1):
            for name, action in contestants.items():
                start = time.thread_time()
                action()
                if turn:
                    spent[name].append(time.thread_time() - start)
    finally:
        torch.set_num_threads(before)
    return {name: min(times) for name, times in spent.items()}


def record(contest: str, clients: int, parameters: int, best: dict[str, float]) -> None:
    """Append a row for each contestant to pairs.csv; ratios are to the first, which is ours."""
    ours = next(iter(best.values()))
    for name, value in best.items():
        figures = {
            "contest": contest,
            "clients": clients,
            "parameters": parameters,
            "contestant": name,
            "cpu_ms": round(value * 1e3, 2),
            "ratio": round(value / ours, 2),
        }
        append("pairs", stamp(1) | figures)
