"""`Cohort.train` beside a round of `Simulation`, in turns: `python bench/bench_cohort.py`.

    --only W2,W3  some of the workloads
    --rounds 40   timed turns
    --threads 2   of torch
    --write       keep a row per workload in results/cohort.csv

simulation  a round of `Simulation`
own         `train(ids)` of the same clients on the cohort's own data; own_step: and `step`
data        `train(ids, data=...)`, the clients' samples given with the call
cat         what concatenating these samples takes alone
A ratio is over the median of the simulation's rounds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from alternate import alternate_rounds, torch_threads
from result_files import append, quantiles, stamp
from workloads import LR, WORKLOADS, Workload

import fedfast

Turn = Callable[[int], object]


def turns(work: Workload, rounds: int, algorithm: str, threads: int) -> dict[str, Turn]:
    """What takes turns; each is called with the number of the turn."""
    data, given = work.data(), dict(lr=LR, threads=threads, batch_size=work.batch)
    drawn = fedfast.Schedule.draw(
        data.sizes, rounds=rounds + 1, participation=work.cohort / work.clients,
        local_epochs=1, batch_size=work.batch, seed=0,
    )  # fmt: skip
    ids = [drawn.round(t).clients for t in range(rounds + 1)]
    parts = [[(s.x, s.y) for s in map(data.client, map(int, who))] for who in ids]
    sim = iter(fedfast.Simulation(work.module(), data, algorithm, schedule=drawn, **given))
    own = fedfast.Cohort(work.module(), data, algorithm, **given)
    stepped = fedfast.Cohort(work.module(), data, algorithm, **given)
    call = fedfast.Cohort(work.module(), None, algorithm, population=work.clients, **given)
    return {
        "simulation": lambda t: next(sim),
        "own": lambda t: own.train(ids[t]),
        "own_step": lambda t: stepped.step(stepped.train(ids[t])),
        "data": lambda t: call.train(ids[t], data=parts[t]),
        "cat": lambda t: torch.cat([x for x, _ in parts[t]]),
    }


def measure(work: Workload, rounds: int, algorithm: str, threads: int) -> dict[str, object]:
    """The row of one workload."""
    made = turns(work, rounds, algorithm, threads)
    seconds, elsewhere = alternate_rounds(list(made.values()), rounds)
    found: dict[str, object] = {"workload": work.name, "algorithm": algorithm, "rounds": rounds}
    base = statistics.median(seconds[0])
    for name, times in zip(made, seconds, strict=True):
        found |= quantiles(times, prefix=f"{name}_")
        found[f"{name}_ratio"] = f"{statistics.median(times) / base:.3f}"
    return found | {"elsewhere": f"{elsewhere:.2f}"}


def main(argv: list[str] | None = None) -> None:
    """Compare the workloads asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="W2,W3")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--algorithm", default="fedavg")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    for work in WORKLOADS:
        if work.name in options.only.split(","):
            with torch_threads(options.threads):
                found = measure(work, options.rounds, options.algorithm, options.threads)
            row = stamp(options.threads) | found
            print(row, flush=True)
            if options.write:
                append("cohort", row)


if __name__ == "__main__":
    main()
