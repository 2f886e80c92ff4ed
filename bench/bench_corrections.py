"""FedDyn and SCAFFOLD beside FedAvg at 100 x 20 samples, and what moving a row takes bare.

    python bench/bench_corrections.py [--rounds 60] [--write]

Rounds take turns, on one thread, in CPU time, after `WARM_UP` of them: most clients have taken part
by then. Bare loops (`rows.c`) go over a row of the model's size: of a table larger than the caches,
or one that was read just before. Of all times the middle of the lowest third. --write keeps a row
in results/corrections.csv.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from alternate import alternate, torch_threads
from result_files import append, stamp
from workloads import BY_NAME, LR

from fedfast import Simulation

WARM_UP, TABLE, NUMBERS = 30, 600, 159_040
METHODS = ("fedavg", "feddyn", "scaffold")


def low(seconds: Sequence[float]) -> float:
    """The middle of the lowest third."""
    least = sorted(seconds)[: max(1, len(seconds) // 3)]
    return least[len(least) // 2]


def rounds(count: int) -> dict[str, float]:
    """Milliseconds of a round of each method."""
    small = replace(BY_NAME["W3"], name="small", samples=20)
    data, schedule = small.data(), small.schedule(count + WARM_UP)
    how = dict(schedule=schedule, lr=LR, threads=1)
    sims = {name: iter(Simulation(small.module(), data, name, **how)) for name in METHODS}
    actions = {name: lambda s=sim: next(s) for name, sim in sims.items()}
    return {name: 1e3 * low(t) for name, t in alternate(actions, count, WARM_UP).items()}


def compiled(folder: str) -> ctypes.CDLL:
    """`rows.c`, for this processor."""
    to, source = Path(folder) / "rows.so", Path(__file__).parent / "rows.c"
    how = "-O3", "-march=native", "-Wno-psabi", "-shared", "-fPIC"
    subprocess.run(["cc", *how, str(source), "-o", str(to)], check=True)
    return ctypes.CDLL(str(to))


def loops(count: int) -> dict[str, float]:
    """Microseconds of each bare loop over one row."""
    table, hot = torch.zeros(TABLE, NUMBERS), torch.zeros(2, NUMBERS)
    order = torch.randperm(TABLE, generator=torch.Generator().manual_seed(0)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        module = compiled(folder)

    def at(row: torch.Tensor) -> ctypes.c_void_p:
        return ctypes.c_void_p(row.data_ptr())

    n, near, other = ctypes.c_long(NUMBERS), at(hot[0]), at(hot[1])
    bare: dict[str, Callable[[ctypes.c_void_p], object]] = {
        "read_memory": lambda row: module.read_row(row, n),
        "stream": lambda row: module.stream_row(row, n),
        "read_cache": lambda _: module.read_row(near, n),
        "copy_cache": lambda _: module.copy_row(near, other, n),
    }
    spent: dict[str, list[float]] = {name: [] for name in bare}
    for turn in range(count):
        for name, loop in bare.items():
            row = at(table[order[turn % TABLE]])
            module.copy_row(near, other, n)
            begin = time.thread_time_ns()
            loop(row)
            spent[name].append((time.thread_time_ns() - begin) / 1e3)
            order = order[1:] + order[:1]
    return {name: low(t) for name, t in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    with torch_threads(1):
        ms, us = rounds(given.rounds), loops(4 * given.rounds)
    row = {f"{name}_ms": round(t, 2) for name, t in ms.items()}
    row |= {name: round(ms[name] / ms["fedavg"], 3) for name in METHODS[1:]}
    row |= {f"{name}_us": round(t, 1) for name, t in us.items()}
    print(*(f"{name} {value}" for name, value in row.items()), sep="\n")
    if given.write:
        append("corrections", stamp(1) | row)


if __name__ == "__main__":
    main()
