"""Rounds of stateful clients by where their rows are kept: `python bench/bench_client_rows.py`.

An MLP 784-200-10, 100,000 clients of 20 samples, 100 of them a round. Tiers take turns in one
process, a few rounds each, so that what else the machine does meets all of them: seconds of a round
(median of turns), and against "device", where rows are used in memory where they lie. A turn ends
when all that it has to write is written: nobody works in another's time. That wait, which a run
has once, is a twentieth part of a write per round here.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from statistics import median

import result_files
import torch
from torch import nn

import fedfast
from fedfast.algorithms import by_name

SAMPLES, BATCH, COHORT, TURN = 20, 10, 100, 20
TIERS = (("device", None), ("disk", None), ("device", "bfloat16"), ("disk", "bfloat16"))


def federation(clients: int) -> fedfast.FederatedData:
    """Clients that share the samples of the first 1000: rows are what takes memory here."""
    few = min(clients, 1000)
    x, y = torch.randn(few * SAMPLES, 784), torch.arange(few * SAMPLES) % 10
    data = fedfast.FederatedData.from_arrays(x.split(SAMPLES), y.split(SAMPLES))
    return data if clients == few else data.repeated(clients)


def simulations(
    algorithm: str, clients: int, rounds: int, threads: int, folder: str
) -> dict[str, fedfast.Simulation]:
    """One for each tier, by its name."""
    torch.manual_seed(0)
    data, made = federation(clients), {}
    net = nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))
    for tier, dtype in TIERS:
        made[f"{tier} {dtype or 'float32'}"] = fedfast.Simulation(
            net,
            data,
            by_name(algorithm),
            rounds=rounds,
            participation=COHORT / clients,
            batch_size=BATCH,
            lr=0.01,
            threads=threads,
            client_rows=tier,
            client_rows_dtype=dtype,
            client_rows_folder=folder,
        )
    return made


def measure(sims: dict[str, fedfast.Simulation]) -> dict[str, list[float]]:
    """Seconds of a round in every turn, by tier."""
    running = {name: iter(sim) for name, sim in sims.items()}
    found: dict[str, list[float]] = {name: [] for name in sims}
    for _ in range(next(iter(sims.values())).rounds // TURN):
        for name, rounds in running.items():
            begin = time.perf_counter()
            for _ in range(TURN):
                next(rounds)
            sims[name]._engine.clients.flush()
            found[name].append((time.perf_counter() - begin) / TURN)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every tier and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algorithm", default="fedgloss")
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", help="on the disk that is measured; default: a temporary one")
    parser.add_argument("--alone", help="one tier only, as 'disk float32': nobody takes turns")
    given = parser.parse_args(argv)
    if given.rounds < 2 * TURN:
        parser.error(f"--rounds: expected at least {2 * TURN}, two turns; got {given.rounds}")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        what = given.algorithm, given.clients, given.rounds, given.threads, folder
        sims = simulations(*what)
        chosen = sims if given.alone is None else {given.alone: sims[given.alone]}
        found = measure(chosen)
    base = median(found[next(iter(found))][1:])
    for name, seconds in found.items():
        middle = median(seconds[1:])
        row = dict(algorithm=given.algorithm, clients=given.clients, cohort=COHORT, tier=name)
        row |= {"round_ms": f"{1e3 * middle:.3g}", "ratio": f"{middle / base:.3f}"}
        print(row, flush=True)
        result_files.append("client_rows", result_files.stamp(given.threads) | row)


if __name__ == "__main__":
    main()
