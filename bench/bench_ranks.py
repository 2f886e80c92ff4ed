"""Rounds by two ranks beside rounds by one: `python bench/bench_ranks.py`.

    --only W1,W3    some of the workloads
    --rounds N      timed rounds of each contestant, by default enough for some ten seconds
    --write         keep a row per workload and kind in results/ranks.csv

Contestants take turns, some rounds at a time: one rank with 1 thread, two ranks with 1 thread each,
one rank with 2 threads. `strong` is the same cohort for all; `weak` gives one rank half of it.
efficiency = (time of one rank, 1 thread) / (2 x time of two ranks) for strong scaling, and the ratio
of the two times for weak scaling: 1 is perfect. The bar is 0.9 on W1.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from result_files import append, stamp

HERE = Path(__file__).resolve()
ROUNDS = {"W1": 4, "W2": 20, "W3": 40}  # timed, of each contestant
TURNS = 4


class Contestant:
    """The processes of one contestant; rank 0 plays rounds for each line that it is sent."""

    def __init__(self, workload: str, ranks: int, threads: int, share: float) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given = [sys.executable, str(HERE), "--serve", workload, str(threads), str(share)]
        self.processes = []
        for rank in range(ranks):
            env = os.environ | {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.processes.append(subprocess.Popen(given, env=env, **pipes))  # type: ignore[call-overload]

    def seconds(self, rounds: int) -> list[float]:
        """Of so many rounds, of rank 0."""
        for process in self.processes:
            process.stdin.write(f"{rounds}\n")
            process.stdin.flush()
        found = [process.stdout.readline() for process in self.processes]
        return [float(word) for word in found[0].split()]

    def close(self) -> None:
        """Ends the processes."""
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait()


def serve(name: str, threads: int, share: float) -> None:
    """A rank: trains as many rounds as each line says."""
    import torch.distributed as dist
    from workloads import BY_NAME, LR

    import fedfast

    ranks = None
    if os.environ["WORLD_SIZE"] != "1":
        dist.init_process_group("gloo")
        ranks = "all"
    workload = BY_NAME[name]
    workload = replace(workload, cohort=max(1, round(workload.cohort * share)))
    given = dict(rounds=10_000, local_epochs=1, batch_size=workload.batch, lr=LR, threads=threads)
    given |= dict(participation=workload.cohort / workload.clients, eval_every=10_000, ranks=ranks)
    rows = iter(fedfast.Simulation(workload.module(), workload.data(), "fedavg", **given))
    for line in sys.stdin:
        spent = []
        for _ in range(int(line)):
            begin = time.perf_counter()
            next(rows)
            spent.append(time.perf_counter() - begin)
        print(*spent, flush=True)


def measure(name: str, rounds: int, weak: bool) -> dict[str, float]:
    """Medians of the contestants' rounds, in turns."""
    share = 0.5 if weak else 1.0
    kinds = {"one": (1, 1, share), "two_ranks": (2, 1, 1.0), "two_threads": (1, 2, 1.0)}
    contestants = {kind: Contestant(name, *given) for kind, given in kinds.items()}
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for contestant in contestants.values():
        contestant.seconds(2)  # buffers, plans, connections
    for _ in range(TURNS):
        for kind, contestant in contestants.items():
            found[kind] += contestant.seconds(max(1, rounds // TURNS))
    for contestant in contestants.values():
        contestant.close()
    return {kind: statistics.median(spent) for kind, spent in found.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a line per workload and kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(ROUNDS))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.serve:
        name, threads, share = given.serve
        serve(name, int(threads), float(share))
        return
    for name in given.only.split(","):
        for weak in (False, True):
            spent = measure(name, given.rounds or ROUNDS[name], weak)
            efficiency = spent["one"] / spent["two_ranks"] / (1 if weak else 2)
            kind = "weak" if weak else "strong"
            row = {"workload": name, "scaling": kind, "efficiency": round(efficiency, 3)}
            row |= {key: round(value, 5) for key, value in spent.items()}
            print(*(f"{key}={value}" for key, value in row.items()), flush=True)
            if given.write:
                append("ranks", {**stamp(1), **row})


if __name__ == "__main__":
    main()
