"""What the number of clients costs: `python bench/bench_population.py [--write]`.

builds   time and memory of every way to make FederatedData at N clients of 20 samples each, in
         processes of their own. Memory is numpy's peak, beyond the samples, in bytes per client,
         and what of it is not the index (8 bytes a sample)
rounds   seconds of a FedAvg round over N at equal cohorts, in turns: clients of N in one process
         take rounds alternately, so that what else the machine does meets all alike; also the time
         and memory of `Simulation(...)`
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import result_files
import sizes
import torch
from torch import nn

import fedfast
from fedfast.data import FederatedData, Samples, describe, partition

EACH, CLASSES, PIXELS = 20, 10, 784  # samples of a client
POPULATIONS = (100_000, 1_000_000, 10_000_000)
ROUND_POPULATIONS = (1_000, 10_000, 100_000, 1_000_000)
COHORTS, ROUNDS = (10, 100), 200
PARTITIONS: dict[str, dict[str, object]] = {
    "iid": {},
    "dirichlet": {"alpha": 0.3, "min_size": 0},
    "dirichlet-equal": {"alpha": 0.3},
    "hsu": {"alpha": 0.3},
    "shards": {"classes_per_client": 2},
    "pathological": {"classes_per_client": 2},
    "natural": {},
}
INDICES = ("matrix", "arrays", "csr")


def samples(clients: int) -> Samples:
    """EACH samples per client, of one byte each, and owners in random order."""
    rng, n = np.random.default_rng(0), clients * EACH
    owner = rng.permutation(np.repeat(np.arange(clients), EACH))
    y = torch.from_numpy(rng.integers(0, CLASSES, n))
    return Samples(torch.zeros(n, 1, dtype=torch.uint8), y, owner=torch.from_numpy(owner))


def maker(name: str, pool: Samples, clients: int) -> Callable[[], FederatedData]:
    """What makes so many clients of the samples."""
    if name in PARTITIONS:
        many = {} if name == "natural" else {"clients": clients}
        return lambda: partition(name, pool, **many, **PARTITIONS[name])
    table = np.random.default_rng(1).permutation(clients * EACH).reshape(clients, EACH)
    if name == "csr":
        offsets = np.arange(clients + 1) * EACH
        return lambda: FederatedData.from_csr(pool, offsets, table.reshape(-1))
    index = table if name == "matrix" else list(table)
    return lambda: FederatedData.from_index(pool, index)


def build(name: str, clients: int) -> dict[str, float]:
    """Seconds to make and to describe them, and bytes per client."""
    make = maker(name, samples(clients), clients)
    begin, cpu = time.perf_counter(), time.process_time()
    made = make()
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    begin = time.perf_counter()
    describe(made)
    told = time.perf_counter() - begin
    del made
    tracemalloc.start()
    make()
    each = tracemalloc.get_traced_memory()[1] / clients
    figures = {"seconds": wall, "cpu_seconds": cpu, "describe_seconds": told}
    return figures | {"bytes_per_client": each, "beside_index": each - 8 * EACH}


def simulation(clients: int, cohort: int, apart: bool) -> fedfast.Simulation:
    """FedAvg of an MLP; `apart`: every client has samples of its own, else all share 60,000."""
    rng = np.random.default_rng(0)
    n = clients * EACH if apart else min(60_000, clients * EACH)
    x = torch.zeros(n, PIXELS, dtype=torch.uint8)
    x[:, ::97] = 1  # every page is memory of its own
    y = torch.from_numpy(rng.integers(0, CLASSES, n))
    rows = rng.permutation(n) if apart else rng.integers(0, n, clients * EACH)
    data = FederatedData.from_index(Samples(x, y), rows.reshape(clients, EACH))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(PIXELS, 200), nn.ReLU(), nn.Linear(200, CLASSES))
    given = dict(participation=cohort / clients, local_epochs=1, batch_size=10, lr=0.1)
    return fedfast.Simulation(model, data, rounds=1 << 20, memory=4, **given)


def rounds(
    cohort: int, populations: Sequence[int], apart: bool, turns: int
) -> dict[int, list[float]]:
    """Seconds of each round, N -> times: one round of every N in turn."""
    runs = {n: iter(simulation(n, cohort, apart)) for n in populations}
    for run in runs.values():
        for _ in range(3):
            next(run)
    times: dict[int, list[float]] = {n: [] for n in populations}
    for turn in range(turns):
        order = list(populations)[:: 1 if turn % 2 else -1]
        for n in order:
            begin = time.perf_counter()
            next(runs[n])
            times[n].append(time.perf_counter() - begin)
    return times


def in_process(*words: object) -> dict[str, float]:
    """This script's `--case` in a process of its own."""
    given = [sys.executable, __file__, "--case", *map(str, words)]
    done = subprocess.run(given, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def started(clients: int) -> dict[str, float]:
    """Seconds and bytes of `Simulation(...)`, of one round, of a save and its history."""
    before = resident()
    begin = time.perf_counter()
    sim = simulation(clients, 100, False)
    made = time.perf_counter() - begin
    begin = time.perf_counter()
    again = fedfast.Simulation(
        nn.Sequential(nn.Linear(PIXELS, 200), nn.ReLU(), nn.Linear(200, CLASSES)),
        sim._design.data, rounds=10, participation=100 / clients, local_epochs=1, batch_size=10,
    )  # fmt: skip
    built = time.perf_counter() - begin
    next(iter(again))
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state")
        again.save(path)
        saved, size = time.perf_counter() - begin, path.stat().st_size
    found = {"data_and_simulation_seconds": made, "simulation_seconds": built}
    return found | {
        "save_seconds": saved,
        "state_bytes": size,
        "resident_per_client": (resident() - before) / clients,
    }


def resident() -> int:
    """Anonymous bytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def main(argv: Sequence[str] | None = None) -> None:
    """Print all figures; --write appends them to results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="append to results/population.csv")
    parser.add_argument("--only", choices=("builds", "rounds", "starts"), action="append")
    parser.add_argument("--clients", type=int, nargs="+", help="N, in place of the usual ones")
    parser.add_argument("--turns", type=int, default=2 if sizes.SMOKE else ROUNDS)
    parser.add_argument("--apart", action="store_true", help="samples of each client's own: 16 GB")
    parser.add_argument("--case", nargs=3, help="build NAME N, or start - N")
    given = parser.parse_args(argv)
    if given.case:
        what, name, n = given.case
        print(json.dumps(build(name, int(n)) if what == "build" else started(int(n))))
        return
    only = given.only or ["builds", "starts", "rounds"]
    for n in given.clients or POPULATIONS:
        if "builds" in only:
            for name in (*PARTITIONS, *INDICES):
                report(given.write, "build", name, n, in_process("build", name, n))
        if "starts" in only:
            report(given.write, "start", "fedavg", n, in_process("start", "-", n))
    for cohort in COHORTS if "rounds" in only else ():
        populations = given.clients or ROUND_POPULATIONS
        times = rounds(cohort, populations, given.apart, given.turns)
        least = float(np.median(times[populations[0]]))
        for n, found in times.items():
            median = float(np.median(found))
            figures = {"round_seconds": median, "beside_fewest": median / least}
            report(given.write, f"round{'-apart' * given.apart}", f"cohort {cohort}", n, figures)


def report(write: bool, kind: str, name: str, clients: int, figures: dict[str, float]) -> None:
    """A line for people, and one row per figure for results."""
    shown = {k: float(f"{v:.4g}") for k, v in figures.items()}
    print(kind, name, f"{clients:,}", shown, flush=True)
    head = result_files.stamp(torch.get_num_threads())
    head |= {"kind": kind, "name": name, "clients": clients}
    if write:
        rows = [head | {"figure": k, "value": float(f"{v:.5g}")} for k, v in figures.items()]
        result_files.append("population", *rows)


if __name__ == "__main__":
    main()
