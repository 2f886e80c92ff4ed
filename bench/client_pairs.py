"""Shared by the benchmarks of pairs of clients: CPU time on one thread, rows of pairs.csv."""

from __future__ import annotations

from alternate import Action, alternate, torch_threads
from result_files import append, stamp


def seconds(actions: dict[str, Action], turns: int) -> dict[str, float]:
    """Least CPU seconds of each on one thread, taking turns after one to warm up."""
    with torch_threads(1):
        return {name: min(times) for name, times in alternate(actions, turns).items()}


def record(comparison: str, clients: int, parameters: int, best: dict[str, float]) -> None:
    """Append a row for each implementation to pairs.csv; ratios are to the first, fedfast's."""
    ours = next(iter(best.values()))
    for name, value in best.items():
        figures = {
            "contest": comparison,
            "clients": clients,
            "parameters": parameters,
            "contestant": name,
            "cpu_ms": round(value * 1e3, 2),
            "ratio": round(value / ours, 2),
        }
        append("pairs", stamp(1) | figures)
