"""Rounds of this tree beside those of another one, in turns: `python bench/bench_before.py TREE`.

    TREE            a checkout of fedfast, compiled in place, with `fedfast/kernels` linked to
                    `../kernels`
    --only W2,W3    some of the workloads, all by default
    --write         keep a row per workload in results/before.csv

Each tree is a process of its own; they take turns, round by round, on two threads, which shows
differences of some percent that `compare.py` cannot tell from noise. `ratio` is the other tree's
median over this one's: above 1 this tree is faster.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from result_files import append, quantiles, stamp

THREADS, HERE = 2, Path(__file__).resolve()
PAUSE = 0.03  # seconds: OpenMP's threads of the tree that came before spin for milliseconds
# (workload, algorithm) -> rounds: enough for ten seconds of each tree.
ROUNDS = {
    ("W1", "fedavg"): 6,
    ("W1b", "fedavg"): 12,
    ("W2", "fedavg"): 60,
    ("W2", "fedsam"): 60,
    ("W3", "fedavg"): 60,
    ("W4", "fedavg"): 6,
    ("W5", "fedavg"): 4,
}


class Tree:
    """A process that imports fedfast from one tree and plays a round for each line it is sent."""

    def __init__(self, path: Path, *given: str) -> None:
        paths = os.pathsep.join([str(path), str(HERE.parent)])
        self._process = subprocess.Popen(
            [sys.executable, str(HERE), "--serve", *given],
            env=os.environ | {"PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self) -> float:
        """Of the next round."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print("round", file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def serve(name: str, algorithm: str, rounds: int) -> None:
    """Play a round for each line of stdin and print its seconds."""
    import torch
    from workloads import BY_NAME

    import fedfast

    torch.set_num_threads(THREADS)
    work = BY_NAME[name]
    given = dict(schedule=work.schedule(rounds), lr=0.01, threads=THREADS)
    rows = iter(fedfast.Simulation(work.module(), work.data(), algorithm, **given))
    for _ in sys.stdin:
        begin = time.perf_counter()
        next(rows)
        print(time.perf_counter() - begin, flush=True)


def compare(tree: Path, name: str, algorithm: str, rounds: int) -> dict[str, object]:
    """The row of one workload; the first round of each tree is not counted."""
    given = (name, algorithm, str(rounds + 1))
    sides = {p: Tree(path, *given) for p, path in (("before_", tree), ("", HERE.parents[1]))}
    times: dict[str, list[float]] = {p: [] for p in sides}
    for turn in range(rounds + 1):
        for p in list(sides)[:: 1 if turn % 2 else -1]:
            time.sleep(PAUSE)
            times[p].append(sides[p].seconds())
    for side in sides.values():
        side.close()
    found = {k: v for p, t in times.items() for k, v in quantiles(t[1:], prefix=p).items()}
    ratio = f"{found['before_median_s'] / found['median_s']:.3f}"
    return {"workload": name, "algorithm": algorithm, "rounds": rounds, **found, "ratio": ratio}


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the workloads asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    for (name, algorithm), rounds in ROUNDS.items():
        if not options.only or name in options.only.split(","):
            row = stamp(THREADS) | compare(options.tree.resolve(), name, algorithm, rounds)
            print(row, flush=True)
            if options.write:
                append("before", row)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
