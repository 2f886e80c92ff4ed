"""Rounds of fedfast against the same rounds written by hand: `python bench/bench_round.py`.

    --only W2,W3    some of the workloads (bench/workloads.py), all by default
    --rounds n      timed rounds, instead of each workload's own number
    --threads 2     cores that every contestant may use
    --scaling       instead: seconds per client for cohorts of 10 to 10,000 (W3's model)
    --write         append rows to bench/results/round.csv

Contestants take turns round by round, after a warm-up round, so that whatever else the machine does
falls on all alike. All train the same clients on the same batches from the same schedule, written
down beforehand (drawing one is the only part of a round that nobody is timed for); evaluation is
off. `tuned` and `vmap` first try their settings on the warm-up round and play the best one.
tests/test_baselines.py holds all of them to the same weights.

GFLOP/s counts the multiply-adds that no implementation can avoid, see `Workload.flops`, and FedSAM
twice FedAvg's. "of SGEMM" is their share of the best large `torch.mm` in the same run. "x fedfast"
is a contestant's median over fedfast's: above 1 fedfast is faster.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from baselines import Tuned, Typical, Vmapped, Work, written
from contest import commit, processor
from torch import nn
from workloads import LR, RHO, WORKLOADS, Workload

from fedfast import FederatedData, Schedule, Simulation
from fedfast.algorithms import FedAvg, FedSAM
from fedfast.data import Samples

RESULTS = Path(__file__).parent / "results" / "round.csv"
COHORTS = (10, 30, 100, 300, 1000, 3000, 10_000)
PATIENCE = 1.0  # seconds for trying one setting


@dataclass(frozen=True)
class Row:
    """What one contestant did on one workload; a line of round.csv.

    clients  per round; rounds timed
    gflop_per_s, sgemm_gflop_per_s  useful arithmetic, and that of a large product
    setup_s    before the first round: compilation, allocation
    elsewhere  share of the machine's CPU time that other processes took during the race
    ratio_fedfast  median over fedfast's, same algorithm
    ratio_sam      FedSAM's median over FedAvg's, same contestant
    """

    date: str
    commit: str
    cpu: str
    threads: int
    torch: str
    workload: str
    algorithm: str
    contestant: str
    setting: str
    clients: int
    samples: int
    batch: int
    rounds: int
    median_s: float
    p20_s: float
    p80_s: float
    clients_per_s: float
    gflop_per_s: float
    sgemm_gflop_per_s: float
    setup_s: float
    elsewhere: float
    ratio_fedfast: float | None = None
    ratio_sam: float | None = None


@dataclass(frozen=True)
class Contestant:
    """Someone who can play round t; `setup` seconds were spent before."""

    name: str
    algorithm: str
    setting: str
    setup: float
    play: Callable[[int], object]


@dataclass(frozen=True)
class Arena:
    """One workload, made ready: everybody's data, initial model, schedule and batches."""

    workload: Workload
    data: FederatedData
    module: nn.Module
    schedule: Schedule
    rounds: list[list[Work]]
    threads: int

    @classmethod
    def of(cls, workload: Workload, rounds: int, threads: int) -> Arena:
        """Round 0 warms up, `rounds` more follow."""
        data, schedule = workload.data(), workload.schedule(rounds)
        plans = [written(data, schedule.round(t)) for t in range(rounds + 1)]
        return cls(workload, data, workload.module(), schedule, plans, threads)


def fedfast(arena: Arena, rho: float | None) -> Contestant:
    """The library, whatever path it takes."""
    begin = time.perf_counter()
    sim = Simulation(
        arena.module,
        arena.data,
        FedAvg() if rho is None else FedSAM(rho=rho),
        schedule=arena.schedule,
        lr=LR,
        threads=arena.threads,
    )
    rounds = iter(sim)
    setup = time.perf_counter() - begin
    return Contestant("fedfast", algorithm(rho), path(sim), setup, lambda t: next(rounds))


def path(sim: Simulation) -> str:
    """Who computes the gradients, for the record."""
    return type(sim._engine.trainer.path).__name__


def typical(arena: Arena, rho: float | None) -> Contestant:
    """What published code does, on torch's default threads."""
    rival = Typical(arena.module, arena.data.x, arena.data.y, LR, rho)
    return Contestant("typical", algorithm(rho), "", 0.0, lambda t: rival.round(arena.rounds[t]))


def tuned(arena: Arena) -> list[Contestant]:
    """The best eager loop; FedSAM takes the setting that was best for FedAvg."""

    def make(setting: tuple[int, int], rho: float | None = None) -> Tuned:
        return Tuned(arena.module, arena.data.x, arena.data.y, LR, rho, *setting)

    settings = [s for s in Tuned.SETTINGS if max(s) <= arena.threads]
    best, plain, _ = fastest(make, settings, arena.rounds[0])
    told = f"{best[0]} workers x {best[1]} threads"
    return [
        Contestant("tuned", algorithm(rho), told, 0.0, lambda t, r=r: r.round(arena.rounds[t]))
        for rho, r in ((None, plain), (RHO, make(best, RHO)))
    ]


def vmapped(arena: Arena) -> Contestant:
    """All clients at once, or ten at a time; compiled where a compiler works and if that pays."""

    def make(setting: tuple[int | None, bool]) -> Vmapped:
        return Vmapped(arena.module, arena.data.x, arena.data.y, LR, *setting)

    torch.compiler.reset()  # what other workloads compiled counts towards a limit
    chunks = [c for c in Vmapped.SETTINGS if c is None or c < arena.workload.cohort]
    compilers = (False, True) if arena.workload.compiles else (False,)
    settings = [(chunk, compiled) for compiled in compilers for chunk in chunks]
    best, rival, setup = fastest(make, settings, arena.rounds[0])
    told = f"{'compiled' if best[1] else 'eager'}, {best[0] or arena.workload.cohort} at once"
    return Contestant("vmap", "fedavg", told, setup, lambda t: rival.round(arena.rounds[t]))


def fastest(make: Callable, settings: Sequence, work: list[Work]) -> tuple:
    """(setting, contestant, seconds of its first round) of the one that plays `work` fastest.

    It has trained a little when the race begins, which does not change its times.
    """
    tried = []
    for setting in settings:
        try:
            rival = make(setting)
            first = timed(lambda r=rival: r.round(work))
            best = min(patiently(lambda r=rival: r.round(work)))
            tried.append((best, setting, rival, first))
        except Exception as error:  # a missing compiler ends in many kinds of errors
            print(f"  {type(error).__name__} in {setting}: {str(error).splitlines()[0]}")
    return min(tried, key=lambda entry: entry[0])[1:]


def patiently(action: Callable[[], object]) -> Iterable[float]:
    """Seconds of one call after another, until `PATIENCE` is spent."""
    spent = 0.0
    while spent < PATIENCE:
        seconds = timed(action)
        spent += seconds
        yield seconds


def timed(action: Callable[[], object]) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def algorithm(rho: float | None) -> str:
    """Its name, by SAM's radius."""
    return "fedavg" if rho is None else "fedsam"


def race(contestants: list[Contestant], rounds: int) -> tuple[list[list[float]], float]:
    """Seconds of every contestant's rounds 1..rounds, taking turns; round 0 is not counted.

    Also the share of the machine that others took meanwhile.
    """
    seconds: list[list[float]] = [[] for _ in contestants]
    before = Usage.now()
    for t in range(rounds + 1):
        for contestant, times in zip(contestants, seconds, strict=True):
            spent = timed(lambda c=contestant, t=t: c.play(t))
            if t > 0:
                times.append(spent)
    return seconds, Usage.now().elsewhere(before)


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far: available in all, spent by everybody, spent by this process."""

    available: float
    everybody: float
    own: float

    @classmethod
    def now(cls) -> Usage:
        """Read the clocks; without Linux's /proc nobody else is seen."""
        cores, own = os.cpu_count() or 1, time.process_time()
        try:
            user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split()[1:9]
        except OSError:
            return cls(cores * time.perf_counter(), own, own)
        ticks = sum(map(int, (user, nice, system, *interrupts)))
        return cls(cores * time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), own)

    def elsewhere(self, before: Usage) -> float:
        """The share of the available seconds that others have spent since `before`."""
        others = (self.everybody - before.everybody) - (self.own - before.own)
        return max(0.0, others / (self.available - before.available))


def contest(workload: Workload, rounds: int, threads: int, sgemm: float) -> list[Row]:
    """All contestants on one workload."""
    arena = Arena.of(workload, rounds, threads)
    plain, sharp = tuned(arena)
    contestants = [fedfast(arena, None), typical(arena, None), plain, vmapped(arena)]
    contestants += [fedfast(arena, RHO), typical(arena, RHO), sharp]
    seconds, elsewhere = race(contestants, rounds)
    rows = [
        row(workload, c, times, threads, sgemm, elsewhere)
        for c, times in zip(contestants, seconds, strict=True)
    ]
    return compared(rows)


def row(
    workload: Workload,
    c: Contestant,
    seconds: list[float],
    threads: int,
    sgemm: float,
    elsewhere: float,
) -> Row:
    """The figures of one contestant, but for its ratios."""
    median = statistics.median(seconds)
    p20, p80 = np.percentile(seconds, [20, 80])
    flops = workload.flops() * (2 if c.algorithm == "fedsam" else 1)
    return Row(
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        commit=commit(),
        cpu=processor(),
        threads=threads,
        torch=torch.__version__,
        workload=workload.name,
        algorithm=c.algorithm,
        contestant=c.name,
        setting=c.setting,
        clients=workload.cohort,
        samples=workload.samples,
        batch=workload.batch,
        rounds=len(seconds),
        median_s=round(median, 5),
        p20_s=round(float(p20), 5),
        p80_s=round(float(p80), 5),
        clients_per_s=round(workload.cohort / median, 2),
        gflop_per_s=round(flops / median / 1e9, 2),
        sgemm_gflop_per_s=round(sgemm, 1),
        setup_s=round(c.setup, 2),
        elsewhere=round(elsewhere, 3),
    )


def compared(rows: list[Row]) -> list[Row]:
    """The rows with their ratios to fedfast and between the algorithms."""
    median = {(r.contestant, r.algorithm): r.median_s for r in rows}

    def ratios(r: Row) -> Row:
        ours, plain = median.get(("fedfast", r.algorithm)), median.get((r.contestant, "fedavg"))
        sam = r.median_s / plain if r.algorithm == "fedsam" and plain else None
        return replace(
            r,
            ratio_fedfast=ours and round(r.median_s / ours, 3),
            ratio_sam=sam and round(sam, 3),
        )

    return [ratios(r) for r in rows]


def sgemm_rate() -> float:
    """GFLOP/s of the best of some large float32 products."""
    best = 0.0
    for n in (2048, 3072, 4096):
        a, b, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
        torch.mm(a, b, out=out)
        seconds = min(timed(lambda a=a, b=b, out=out: torch.mm(a, b, out=out)) for _ in range(3))
        best = max(best, 2.0 * n**3 / seconds / 1e9)
    return best


def scaling(threads: int, sgemm: float) -> Iterable[Row]:
    """fedfast on W3's clients in cohorts of many sizes, everybody drawn from 10,000 clients."""
    base = next(w for w in WORKLOADS if w.name == "W3")
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


def scaled(workload: Workload, data: FederatedData, threads: int, sgemm: float) -> Row:
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
    plays = iter(sim)
    told = f"{path(sim)}, chunks of {sim.chunk}"
    ours = Contestant("fedfast", "fedavg", told, time.perf_counter() - begin, lambda t: next(plays))
    seconds, elsewhere = race([ours], rounds)
    return row(workload, ours, seconds[0], threads, sgemm, elsewhere)


def show(rows: list[Row]) -> None:
    """The table of one workload."""
    print(
        "  algorithm  contestant    median s   [   p20,     p80 ]  clients/s  GFLOP/s"
        "  of SGEMM  x fedfast  setting"
    )
    for r in rows:
        share = r.gflop_per_s / r.sgemm_gflop_per_s
        setup = f" (first round {r.setup_s:.0f} s)" if r.contestant == "vmap" else ""
        print(
            f"  {r.algorithm:<10} {r.contestant:<10} {r.median_s:11.4f}   [{r.p20_s:7.4f}, "
            f"{r.p80_s:7.4f}] {r.clients_per_s:10.1f} {r.gflop_per_s:8.1f} {share:9.0%} "
            f"{r.ratio_fedfast:10.2f}  {r.setting}{setup}"
        )
    ratios = [f"{r.contestant} {r.ratio_sam:.2f}" for r in rows if r.ratio_sam]
    print(f"  FedSAM / FedAvg: {', '.join(ratios)}")
    print(f"  {rows[0].elsewhere:.0%} of the machine went to other processes\n", flush=True)


def append(rows: list[Row]) -> None:
    """Add `rows` to round.csv, with a header if the file is new."""
    RESULTS.parent.mkdir(exist_ok=True)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(vars(rows[0])), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(vars(r) for r in rows)


def arguments() -> argparse.Namespace:
    """The command line."""
    names = [w.name for w in WORKLOADS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--rounds", type=int, help="timed rounds of every workload")
    parser.add_argument("--threads", type=int, default=2, help="cores of every contestant")
    parser.add_argument("--scaling", action="store_true", help="cohorts of 10 to 10,000 instead")
    parser.add_argument("--write", action="store_true", help=f"append rows to {RESULTS.name}")
    told = parser.parse_args()
    unknown = set(told.only.split(",")) - set(names)
    if unknown:
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    return told


def main() -> None:
    """Run what the command line asks for."""
    told = arguments()
    torch.set_num_threads(told.threads)
    # A fresh cache: the compiler's seconds are those of a first run.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="bench_round_")
    sgemm = sgemm_rate()
    print(
        f"{processor()}, {told.threads} threads, torch {torch.__version__}, commit {commit()}; "
        f"SGEMM {sgemm:.0f} GFLOP/s\n"
    )
    if told.scaling:
        for r in scaling(told.threads, sgemm):
            if told.write:
                append([r])
        return
    for workload in (w for w in WORKLOADS if w.name in told.only.split(",")):
        parameters = sum(p.numel() for p in workload.module().parameters())
        print(f"{workload.title}\n  {parameters:,} parameters, ", end="")
        print(f"{workload.flops() / 1e9:.1f} GFLOP a FedAvg round", flush=True)
        rows = contest(workload, told.rounds or workload.rounds, told.threads, sgemm)
        show(rows)
        if told.write:
            append(rows)


if __name__ == "__main__":
    main()
