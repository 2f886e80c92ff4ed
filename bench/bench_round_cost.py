"""What a round costs by cohort and by N: `python bench/bench_round_cost.py [--write]`.

W3's clients (MLP 784-200-10, 50 samples, B = 10), drawn, one epoch, FedAvg, two threads.

cohorts  10 to 10,000 of N = 20,000: milliseconds a client, and a round's fixed cost, the constant
         of a least-squares line through the seconds of cohorts of 10 to 100; each cohort is visited
         again and again in turns with the others, as the machine is faster in one minute than in
         the next
N        10^3 to 10^6 at cohorts of 10 and 100: rounds of all N in turns, `ratio` to those of the
         least N
fixed    what a round costs beside training: two clients of a model of 170 numbers, a step each, on
         one thread; the median, the fastest in twenty, and the fastest
--fixed measures that alone. --write keeps rows in results/round_cost.csv and round_fixed.csv.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from result_files import append, stamp
from sizes import pick
from torch import nn
from workloads import BY_NAME

from fedfast import FederatedData, Row, Simulation
from fedfast.data import Samples

THREADS = 2
COHORTS = pick((10, 20, 50, 100, 1000, 10_000), (1, 2))
LINE = 100  # cohorts up to this one lie on the line that tells the fixed cost
POPULATION = pick(20_000, 10)
POPULATIONS = pick((10**3, 10**4, 10**5, 10**6), (10, 20))
FEW = pick((10, 100), (2,))
WORK = BY_NAME["W3"]
ROUNDS = pick((300, 3000), (1, 3))  # not counted, and counted
VISITS, CLIENTS = pick((8, 1000), (1, 2))  # a visit's rounds have so many clients, or are one


def data(population: int) -> FederatedData:
    """`population` clients who own the samples of W3's, dealt out again and again."""
    found = WORK.data()
    owner = np.arange(population) % WORK.clients
    offsets = torch.from_numpy(np.append(owner, 0) * WORK.samples)
    return replace(found, offsets=offsets, sizes=np.full(population, WORK.samples))


def rounds(clients: FederatedData, cohort: int) -> Iterator[Row]:
    """Rounds without an end."""
    share = cohort / clients.num_clients
    given = dict(rounds=10**6, participation=share, local_epochs=1, batch_size=WORK.batch)
    return iter(Simulation(WORK.module(), clients, "fedavg", lr=0.01, threads=THREADS, **given))


def seconds(runs: Sequence[Iterator[Row]], count: int) -> list[float]:
    """The median round of each, `count` rounds in turns; the first of each is not counted."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(count + 1):
        for run, own in zip(runs, times, strict=True):
            begin = time.perf_counter()
            next(run)
            own.append(time.perf_counter() - begin)
    return [float(np.median(own[1:])) for own in times]


def fixed() -> list[dict[str, object]]:
    """A row: rounds of next to no training."""
    x, y = torch.randn(200, 16), torch.randint(10, (200,))
    clients = FederatedData.from_index(Samples(x, y), np.arange(200).reshape(10, 20))
    model, batch = nn.Sequential(nn.Linear(16, 10)), dict(local_epochs=1, batch_size=20)
    how = dict(rounds=10**6, participation=0.2, lr=0.01, threads=1, **batch)
    run, times = iter(Simulation(model, clients, "fedavg", **how)), []
    for _ in range(sum(ROUNDS)):
        begin = time.perf_counter()
        next(run)
        times.append(1e3 * (time.perf_counter() - begin))
    shown = np.percentile(times[ROUNDS[0] :], (50, 5, 0)).round(4)
    return [dict(zip(("median_ms", "twentieth_ms", "least_ms"), shown.tolist(), strict=True))]


def by_cohort() -> list[dict[str, object]]:
    """A row for each cohort."""
    clients = data(POPULATION)
    runs = {cohort: rounds(clients, cohort) for cohort in COHORTS}
    times: dict[int, list[float]] = {cohort: [] for cohort in COHORTS}
    for _ in range(VISITS):
        for cohort, run in runs.items():
            times[cohort] += seconds([run], max(1, CLIENTS // cohort))
    found = {cohort: float(np.median(own)) for cohort, own in times.items()}
    few = [cohort for cohort in COHORTS if cohort <= LINE]
    fixed = float(np.polyfit(few, [found[c] for c in few], 1)[1])
    return [_row(POPULATION, c, s, round(1e3 * fixed, 4), 1.0) for c, s in found.items()]


def by_population() -> list[dict[str, object]]:
    """A row for each N and cohort."""
    rows = []
    for cohort in FEW:
        runs = [rounds(data(n), cohort) for n in POPULATIONS]
        found = seconds(runs, pick(400 // cohort * 5, 1))
        for n, each in zip(POPULATIONS, found, strict=True):
            rows.append(_row(n, cohort, each, float("nan"), round(each / found[0], 4)))
    return rows


def _row(n: int, cohort: int, each: float, fixed: float, ratio: float) -> dict[str, object]:
    return {
        "population": n,
        "cohort": cohort,
        "round_ms": round(1e3 * each, 4),
        "client_ms": round(1e3 * each / cohort, 5),
        "fixed_ms": fixed,
        "ratio": ratio,
    }


def main(given: Sequence[str] | None = None) -> None:
    """One line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args(given)
    for rows in (fixed,) if chosen.fixed else (fixed, by_cohort, by_population):
        threads, file = (1, "round_fixed") if rows is fixed else (THREADS, "round_cost")
        torch.set_num_threads(threads)
        for row in rows():
            print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
            if chosen.write:
                append(file, stamp(threads) | row)


if __name__ == "__main__":
    main()
