"""Who plays rounds in `bench_round.py`: fedfast, and the rivals of `baselines.py` at their best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from baselines import Tuned, Typical, Vmapped, Work, written
from torch import nn
from workloads import LR, RHO, Workload

from fedfast import FederatedData, Schedule, Simulation
from fedfast.algorithms import FedAvg, FedSAM

PATIENCE = 1.0  # seconds for trying one setting


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
    return type(sim._engine.trainer.executor).__name__


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
