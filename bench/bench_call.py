"""What one call of an operation costs before any arithmetic: `python bench/bench_call.py`.

    --write         keep a row per operation in results/call.csv
    --before PATH   another tree of fedfast, whose calls alternate with this one's; its column is
                    `before_us`

Two clients of 64 numbers, one thread: checks, overlap and the call of the compiled module are all
that takes time. CPU time of a process for each tree; they take turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from result_files import append, stamp

CALLS, TURNS = 5000, 9
HERE = Path(__file__).resolve().parent.parent


def operations() -> dict[str, Callable[[], object]]:
    """Calls of four operations on tiny buffers that stay."""
    from fedfast.kernels import linear, linear_backward, mix, step

    w, g, out = (torch.randn(2, 64) for _ in range(3))
    x, weight, bias = torch.randn(2, 4, 8), torch.randn(2, 8, 8), torch.randn(2, 8)
    y, dy, dx = (torch.randn(2, 4, 8) for _ in range(3))
    dweight, dbias = torch.empty(2, 8, 8), torch.empty(2, 8)
    written = dict(dx=dx, dweight=dweight, dbias=dbias)
    return {
        "step": lambda: step(w, g, 0.1, out=out),
        "mix": lambda: mix(w, g, 0.5, 0.5, out=out),
        "linear": lambda: linear(x, weight, bias, out=y),
        "linear_backward": lambda: linear_backward(x, weight, y, dy, **written),
    }


def serve() -> None:
    """Time the operation named on each line of stdin and print microseconds of CPU per call."""
    torch.set_num_threads(1)
    calls = operations()
    for line in sys.stdin:
        call = calls[line.strip()]
        begin = time.process_time()
        for _ in range(CALLS):
            call()
        print((time.process_time() - begin) / CALLS * 1e6, flush=True)


class Tree:
    """A process that imports fedfast from one tree and runs a script, which answers lines."""

    def __init__(self, path: Path, script: Path, *given: str) -> None:
        paths = os.pathsep.join([str(path), str(HERE / "bench")])
        self._process = subprocess.Popen(
            [sys.executable, str(script), *given],
            env=os.environ | {"PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def time(self, name: str) -> float:
        """The number that the script answers."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(name, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())


def main() -> None:
    """Alternate the trees and report medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--before", type=Path, help="another tree, compiled in place")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    paths = {"now_us": HERE} | ({"before_us": options.before} if options.before else {})
    trees = {column: Tree(path, Path(__file__), "--serve") for column, path in paths.items()}
    for name in operations():
        turns = [{column: t.time(name) for column, t in trees.items()} for _ in range(TURNS)]
        found = {column: f"{median(turn[column] for turn in turns):.2f}" for column in trees}
        print(name, found, flush=True)
        if options.write:
            append("call", stamp(1) | {"operation": name, "before_us": ""} | found)


if __name__ == "__main__":
    main()
