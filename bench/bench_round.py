"""Rounds of fedfast against the same rounds written by hand: `python bench/bench_round.py`.

    --only W2,W3    some of the workloads (bench/workloads.py), all by default
    --rounds n      timed rounds, instead of each workload's own number
    --threads 2     cores that every simulator may use
    --scaling       instead: seconds per client for cohorts of 10 to 10,000 (W3's model)
    --write         append rows to bench/results/round.csv

Simulators take turns round by round, after a warm-up round, so that a busy machine slows all alike.
All train the same clients on the same batches of one schedule that is drawn beforehand (the only
part of a round that is not timed); evaluation is off. `tuned` and `vmap` first try their settings
on the warm-up round and keep the best one. tests/test_baselines.py checks that all end at the same
weights.

GFLOP/s counts the multiply-adds that no implementation can avoid, see `Workload.flops`, and FedSAM
twice FedAvg's. "of SGEMM" is their share of the best large `torch.mm` in the same run. "x fedfast"
is a simulator's median over fedfast's: above 1 fedfast is faster.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from alternate import alternate_rounds
from result_files import append, commit, processor
from round_results import RoundRow, compared, round_row, show
from simulators import RoundSetup, Simulator, executor_name, fedfast, timed, tuned, typical, vmapped
from sizes import pick
from workloads import BY_NAME, LR, RHO, Workload

from fedfast import FederatedData, Simulation
from fedfast.data import Samples

COHORTS = pick((10, 30, 100, 300, 1000, 3000, 10_000), (2, 4))


def benchmark(workload: Workload, rounds: int, threads: int, sgemm: float) -> list[RoundRow]:
    """All simulators on one workload."""
    setup = RoundSetup.of(workload, rounds, threads)
    tuned_fedavg, tuned_fedsam = tuned(setup)
    simulators = [fedfast(setup, None), typical(setup, None), tuned_fedavg, vmapped(setup)]
    simulators += [fedfast(setup, RHO), typical(setup, RHO), tuned_fedsam]
    seconds, elsewhere = alternate_rounds([s.run_round for s in simulators], rounds)
    rows = [
        round_row(workload, c, times, threads, sgemm, elsewhere)
        for c, times in zip(simulators, seconds, strict=True)
    ]
    return compared(rows)


def sgemm_rate() -> float:
    """GFLOP/s of the best of some large float32 products."""
    best = 0.0
    for n in pick((2048, 3072, 4096), (64,)):
        a, b, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
        torch.mm(a, b, out=out)
        seconds = min(timed(lambda a=a, b=b, out=out: torch.mm(a, b, out=out)) for _ in range(3))
        best = max(best, 2.0 * n**3 / seconds / 1e9)
    return best


def scaling(threads: int, sgemm: float) -> Iterable[RoundRow]:
    """fedfast on W3's clients in cohorts of many sizes, drawn from 10,000 clients."""
    base = BY_NAME["W3"]
    n, own = base.clients * base.samples, base.samples
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, *base.shape, generator=generator)
    y = torch.randint(10, (n,), generator=generator)
    # 10,000 clients over 50,000 samples: owners overlap, which costs nothing and saves gigabytes.
    owners = np.arange(COHORTS[-1] * own).reshape(COHORTS[-1], own) % n
    data = FederatedData.from_index(Samples(x, y), owners)
    first = None
    for cohort in COHORTS:
        workload = replace(base, name="W3-scaling", clients=COHORTS[-1], cohort=cohort)
        r = scaled(workload, data, threads, sgemm)
        cost = 1e3 * r.median_s / cohort
        first = first or cost
        print(
            f"  cohort {cohort:6d}: {r.median_s:8.3f} s a round, {cost:6.3f} ms per client, "
            f"x {cost / first:.2f} of cohort {COHORTS[0]}'s, {r.setting}, "
            f"{r.elsewhere:.0%} elsewhere",
            flush=True,
        )
        yield r


def scaled(workload: Workload, data: FederatedData, threads: int, sgemm: float) -> RoundRow:
    """One cohort size; fedfast draws the schedule itself."""
    rounds = max(1, min(20, 1000 // workload.cohort))
    begin = time.perf_counter()
    sim = Simulation(
        workload.module(),
        data,
        rounds=rounds + 1,
        participation=workload.cohort / workload.clients,
        batch_size=workload.batch,
        lr=LR,
        threads=threads,
    )
    rounds_left = iter(sim)
    setting = f"{executor_name(sim)}, chunks of {sim.chunk}"
    ours = Simulator(
        "fedfast", "fedavg", setting, time.perf_counter() - begin, lambda t: next(rounds_left)
    )
    seconds, elsewhere = alternate_rounds([ours.run_round], rounds)
    return round_row(workload, ours, seconds[0], threads, sgemm, elsewhere)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = list(BY_NAME)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--rounds", type=int, help="timed rounds of every workload")
    parser.add_argument("--threads", type=int, default=2, help="cores of every simulator")
    parser.add_argument("--scaling", action="store_true", help="cohorts of 10 to 10,000 instead")
    parser.add_argument("--write", action="store_true", help="append rows to round.csv")
    options = parser.parse_args(argv)
    unknown = set(options.only.split(",")) - set(names)
    if unknown:
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    # A fresh cache: the compiler's seconds are those of a first run.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="bench_round_")
    sgemm = sgemm_rate()
    print(
        f"{processor()}, {options.threads} threads, torch {torch.__version__}, commit {commit()}; "
        f"SGEMM {sgemm:.0f} GFLOP/s\n"
    )
    if options.scaling:
        for r in scaling(options.threads, sgemm):
            if options.write:
                append("round", vars(r))
        return
    for workload in map(BY_NAME.__getitem__, options.only.split(",")):
        parameters = sum(p.numel() for p in workload.module().parameters())
        print(f"{workload.title}\n  {parameters:,} parameters, ", end="")
        print(f"{workload.flops() / 1e9:.1f} GFLOP a FedAvg round", flush=True)
        rows = benchmark(workload, options.rounds or workload.rounds, options.threads, sgemm)
        show(rows)
        if options.write:
            append("round", *map(vars, rows))


if __name__ == "__main__":
    main()
