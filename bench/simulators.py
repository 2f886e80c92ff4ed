"""What `bench_round.py` times: fedfast, and the loops of `baselines.py` at their best settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from baselines import ClientWork, TunedLoop, TypicalLoop, client_work
from sizes import pick
from torch import nn
from vmapped import VmappedLoop
from workloads import LR, RHO, Workload

from fedfast import FederatedData, Schedule, Simulation
from fedfast.algorithms import FedAvg, FedSAM

PATIENCE = pick(1.0, 1e-9)  # seconds for trying one setting


@dataclass(frozen=True)
class Simulator:
    """Something that can train round t; `setup_seconds` were spent before."""

    name: str
    algorithm: str
    setting: str
    setup_seconds: float
    run_round: Callable[[int], object]


@dataclass(frozen=True)
class RoundSetup:
    """One workload: data, initial model, schedule and batches, the same for all simulators."""

    workload: Workload
    data: FederatedData
    module: nn.Module
    schedule: Schedule
    rounds: list[list[ClientWork]]
    threads: int

    @classmethod
    def of(cls, workload: Workload, rounds: int, threads: int) -> RoundSetup:
        """Round 0 warms up, `rounds` more follow."""
        data, schedule = workload.data(), workload.schedule(rounds)
        plans = [client_work(data, schedule.round(t)) for t in range(rounds + 1)]
        return cls(workload, data, workload.module(), schedule, plans, threads)


def fedfast(setup: RoundSetup, rho: float | None) -> Simulator:
    """The library, whichever executor it chooses."""
    begin = time.perf_counter()
    sim = Simulation(
        setup.module,
        setup.data,
        FedAvg() if rho is None else FedSAM(rho=rho),
        schedule=setup.schedule,
        lr=LR,
        threads=setup.threads,
    )
    rounds = iter(sim)
    setup_seconds = time.perf_counter() - begin
    return Simulator(
        "fedfast", algorithm(rho), executor_name(sim), setup_seconds, lambda t: next(rounds)
    )


def executor_name(sim: Simulation) -> str:
    """The class that computes the gradients."""
    return type(sim._engine.trainer.executor).__name__


def typical(setup: RoundSetup, rho: float | None) -> Simulator:
    """What published code does, on torch's default threads."""
    baseline = TypicalLoop(setup.module, setup.data.x, setup.data.y, LR, rho)
    return Simulator("typical", algorithm(rho), "", 0.0, lambda t: baseline.round(setup.rounds[t]))


def tuned(setup: RoundSetup) -> list[Simulator]:
    """The best eager loop; FedSAM takes the setting that was best for FedAvg."""

    def make(setting: tuple[int, int], rho: float | None = None) -> TunedLoop:
        return TunedLoop(setup.module, setup.data.x, setup.data.y, LR, rho, *setting)

    settings = [s for s in TunedLoop.SETTINGS if max(s) <= setup.threads]
    best, plain, _ = fastest(make, settings, setup.rounds[0])
    setting = f"{best[0]} workers x {best[1]} threads"
    return [
        Simulator("tuned", algorithm(rho), setting, 0.0, lambda t, r=r: r.round(setup.rounds[t]))
        for rho, r in ((None, plain), (RHO, make(best, RHO)))
    ]


def vmapped(setup: RoundSetup) -> Simulator:
    """All clients at once, or ten at a time; compiled where a compiler works and if that pays."""

    def make(setting: tuple[int | None, bool]) -> VmappedLoop:
        return VmappedLoop(setup.module, setup.data.x, setup.data.y, LR, *setting)

    torch.compiler.reset()  # what other workloads compiled counts towards a limit
    chunks = [c for c in VmappedLoop.SETTINGS if c is None or c < setup.workload.cohort]
    compilers = (False, True) if setup.workload.compiles else (False,)
    settings = [(chunk, compiled) for compiled in compilers for chunk in chunks]
    best, baseline, setup_seconds = fastest(make, settings, setup.rounds[0])
    setting = f"{'compiled' if best[1] else 'eager'}, {best[0] or setup.workload.cohort} at once"
    return Simulator(
        "vmap", "fedavg", setting, setup_seconds, lambda t: baseline.round(setup.rounds[t])
    )


def fastest(make: Callable, settings: Sequence, work: list[ClientWork]) -> tuple:
    """(setting, baseline, seconds of its first round) of the one that trains `work` fastest.

    It has trained a little before it is timed, which does not change its times.
    """
    tried = []
    for setting in settings:
        try:
            baseline = make(setting)
            first = timed(lambda r=baseline: r.round(work))
            best = min(patiently(lambda r=baseline: r.round(work)))
            tried.append((best, setting, baseline, first))
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
