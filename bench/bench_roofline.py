"""What bounds a step of FedAvg on one core: `python bench/bench_roofline.py`.

    --only W2,W3   some of the workloads, W2, W3 and W1b by default
    --rounds n     timed rounds of each, 10 by default
    --write        append rows to bench/results/roofline.csv

First the machine: multiply-adds, and bandwidth of the first, second and third cache and of memory
(`machine.c`, built by the system's C compiler), and the rate of large products (`torch.mm`). Then
rounds on one thread with every operation timed inside of its plan (`fedfast.phases`); a row is an
operation of a step, its median, and its limit: the longer of its arithmetic at the peak and the
weights it must read, or read and write, at the bandwidth of the cache that holds a client's model.
A gather's limit is its samples at the bandwidth of memory. "of SGEMM" is useful arithmetic over the
rate of a large product; the last line gives it at the sum of the limits. Times are of the thread,
in which other processes hardly show.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fedfast.kernels.profile import OperationCall
from result_files import append, stamp
from sizes import pick
from torch import nn
from workloads import BY_NAME, LR, Workload, multiply_adds

from fedfast import Simulation
from fedfast.phases import Profile, recording

SOURCE = Path(__file__).with_name("machine.c")
LEVELS = {"L1": 2**15, "L2": 2**20, "L3": 2**24, "memory": pick(2**28, 2**20)}  # bytes in use
SECOND_CACHE = 2**21  # a model of more bytes is read from the third
MOVED = pick(2**31, 2**22)  # bytes of one measurement
CALLS = pick(200_000, 2_000)


@dataclass(frozen=True)
class Machine:
    """FLOP/s of one core, and bytes/s of reading and of updating by level."""

    flops: float
    reads: dict[str, float]
    updates: dict[str, float]

    @classmethod
    def measured(cls) -> Machine:
        """The best of three of each. Raises OSError or CalledProcessError without a C compiler."""
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/machine.so"
            flags = "-O3", "-march=native", "-mprefer-vector-width=512", "-shared", "-fPIC"
            subprocess.run(["cc", *flags, "-o", path, str(SOURCE)], check=True)
            library = ctypes.CDLL(path)
        found = {}
        for name in ("reading", "updating"):
            call = _function(library, name, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long)
            found[name] = {level: _bandwidth(call, size) for level, size in LEVELS.items()}
        flops = _function(library, "flops", ctypes.c_long)
        peak = max(flops(pick(20_000_000, 1000)) for _ in range(3))
        return cls(peak, found["reading"], found["updating"])

    def rows(self) -> list[dict[str, object]]:
        """Of roofline.csv."""
        none = dict(workload="machine", us=None, gflop_per_s=None, limit_us=None, gb_per_s=None)
        rates = {"read": self.reads, "update": self.updates}
        return [none | {"operation": "fma", "gflop_per_s": round(self.flops / 1e9, 1)}] + [
            none | {"operation": f"{name} {level}", "gb_per_s": round(each[level] / 1e9, 1)}
            for name, each in rates.items()
            for level in LEVELS
        ]


def _function(library: ctypes.CDLL, name: str, *arguments: type) -> ctypes._NamedFuncPointer:
    function = getattr(library, name)
    function.argtypes, function.restype = list(arguments), ctypes.c_double
    return function


def _bandwidth(call: ctypes._NamedFuncPointer, size: int) -> float:
    rows = torch.zeros(size // 4 + 16)
    start = rows.data_ptr() + -rows.data_ptr() % 64
    return max(call(start, size // 4, max(1, MOVED // size)) for _ in range(3))


def steps_of(calls: Sequence[OperationCall]) -> list[list[OperationCall]]:
    """Calls in order, each step from where it fetches its batch to where it adds up its losses."""
    steps: list[list[OperationCall]] = []
    for call in sorted(calls, key=lambda c: c.begin):
        if call.name == "feed":
            steps.append([])
        if steps:
            steps[-1].append(call)
    for step in steps:
        while step[-1].name != "tally" and len(step) > 1:
            step.pop()
    longest = max(map(len, steps))
    return [step for step in steps if len(step) == longest]


def rows_of(
    work: Workload, steps: list[list[OperationCall]], machine: Machine
) -> list[dict[str, object]]:
    """One of each operation of a step, first to last."""
    layers, model = multiply_adds(work.module(), work.shape), work.module()
    weights = [m.weight.numel() for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    size = 4 * sum(p.numel() for p in model.parameters())
    level = "L2" if size < SECOND_CACHE else "L3"
    forward, backward = iter(range(len(layers))), iter(reversed(range(len(layers))))
    rows: list[dict[str, object]] = []
    for at, call in enumerate(steps[0]):
        spent = statistics.median((s[at].end - s[at].begin) / 1e3 for s in steps)
        flop, limit = 0.0, 0.0
        if call.name.startswith(("linear", "conv")):
            back = call.name.endswith("backward")
            layer = next(backward if back else forward)
            flop = 2.0 * work.batch * layers[layer] * (1 + (layer > 0) if back else 1)
            bandwidth = (machine.updates if back else machine.reads)[level]
            moved = 4 * weights[layer] * (2 if back else 1)
            limit = 1e6 * max(flop / machine.flops, moved / bandwidth)
        elif call.name == "gather" and at == 1:
            limit = 1e6 * 4 * work.batch * int(np.prod(work.shape)) / machine.reads["memory"]
        rows.append(
            {
                "workload": work.name,
                "operation": f"{at} {call.name}",
                "us": round(spent, 2),
                "gflop_per_s": round(flop / spent / 1e3, 1),
                "limit_us": round(limit, 2),
                "gb_per_s": None,
            }
        )
    return rows


def profiled(work: Workload, rounds: int) -> tuple[list[list[OperationCall]], float]:
    """(the steps' calls, the median seconds of a round without a profile); on one thread."""
    options = dict(schedule=work.schedule(2 * rounds), lr=LR, threads=1)
    rows = iter(Simulation(work.module(), work.data(), "fedavg", **options))
    next(rows)
    seconds = []
    for _ in range(rounds):
        begin = time.thread_time()
        next(rows)
        seconds.append(time.thread_time() - begin)
    with recording(Profile(calls=CALLS)) as profile:
        for _ in range(rounds):
            next(rows)
    return steps_of(profile.calls), statistics.median(seconds)


def show(work: Workload, rounds: int, machine: Machine, sgemm: float) -> list[dict[str, object]]:
    """Print a workload's table; its rows, the last of a whole round."""
    steps, seconds = profiled(work, rounds)
    rows = rows_of(work, steps, machine)
    print(f"{work.title}\n  operation                      us   GFLOP/s  limit us")
    for row in rows:
        print("  {operation:<24} {us:9.2f} {gflop_per_s:9.1f} {limit_us:9.2f}".format(**row))
    count = work.cohort * -(-work.samples // work.batch)
    limits = count * sum(float(row["limit_us"]) for row in rows) / 1e6
    size = 4 * sum(p.numel() for p in work.module().parameters())
    limits += 2 * work.cohort * size / machine.reads["memory"]  # written, and read for the mean
    share, most = (work.flops() / t / 1e9 / sgemm for t in (seconds, limits))
    print(f"  a round {seconds:.4f} s, {share:.0%} of SGEMM; ", end="")
    print(f"at its limits {limits:.4f} s, {most:.0%}\n", flush=True)
    whole = {"workload": work.name, "operation": "round", "us": round(1e6 * seconds, 1)}
    rate = round(work.flops() / seconds / 1e9, 1)
    limit = {"limit_us": round(1e6 * limits, 1), "gb_per_s": None}
    rows.append(whole | {"gflop_per_s": rate} | limit)
    return [stamp(1) | row | {"sgemm_gflop_per_s": round(sgemm, 1)} for row in rows]


def product_rate() -> float:
    """GFLOP/s of the best of some large products, in the thread's time."""
    n, best = pick(2048, 64), 0.0
    a, b, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    for _ in range(8):
        begin = time.thread_time()
        torch.mm(a, b, out=out)
        best = max(best, 2.0 * n**3 / (time.thread_time() - begin) / 1e9)
    return best


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(n for n in ("W2", "W3", "W1b") if n in BY_NAME))
    parser.add_argument("--rounds", type=int, default=pick(10, 1))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    machine, sgemm = Machine.measured(), product_rate()
    print(f"one core: {machine.flops / 1e9:.0f} GFLOP/s, SGEMM {sgemm:.0f}; GB/s read, updated:")
    for level in LEVELS:
        print(f"  {level:<7}{machine.reads[level] / 1e9:7.1f}{machine.updates[level] / 1e9:7.1f}")
    if options.write:
        same = stamp(1) | {"sgemm_gflop_per_s": round(sgemm, 1)}
        append("roofline", *(same | row for row in machine.rows()))
    for name in options.only.split(","):
        rows = show(BY_NAME[name], options.rounds, machine, sgemm)
        if options.write:
            append("roofline", *rows)


if __name__ == "__main__":
    main()
