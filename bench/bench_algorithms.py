"""Rounds of fedfast on two threads: all workloads under FedAvg and FedSAM, all algorithms on W2.

Evaluation is off and batches are drawn beforehand. Beside other simulators, which must take turns:
`bench_round.py`; beside FedAvg in turns: `fedfast bench algorithms`.
"""

from __future__ import annotations

from typing import Any

import pytest
from sizes import pick
from workloads import BY_NAME, LR

from fedfast import Simulation
from fedfast.algorithms import names

# Measured on every workload; another kind of model; all data in one place; no batches.
APART = ("fedavg", "fedsam", "fedcr", "centralized", "fedsgd")
TWO_THREADS = pytest.mark.parametrize("threads", [2], indirect=True)


def time_rounds(benchmark: Any, name: str, algorithm: str, rounds: int, threads: int) -> None:
    """Rounds of one simulation after one that warms up."""
    workload = BY_NAME[name]
    given = dict(schedule=workload.schedule(rounds), lr=LR, threads=threads)
    sim = Simulation(workload.module(), workload.data(), algorithm, **given)
    benchmark.group = f"round of {name}"
    benchmark.extra_info |= {
        "flops": round(sim.algorithm.gradients * workload.flops()),
        "samples": workload.cohort * workload.samples,
    }
    benchmark.pedantic(next, args=(iter(sim),), rounds=rounds, warmup_rounds=1)


@TWO_THREADS
@pytest.mark.parametrize("workload", BY_NAME)
@pytest.mark.parametrize("algorithm", ["fedavg", "fedsam"])
def test_round(workload: str, algorithm: str, threads: int, benchmark: Any) -> None:
    time_rounds(benchmark, workload, algorithm, BY_NAME[workload].rounds, threads)


@TWO_THREADS
@pytest.mark.parametrize("algorithm", [n for n in names() if n not in APART])
def test_algorithm(algorithm: str, threads: int, benchmark: Any) -> None:
    time_rounds(benchmark, "W2", algorithm, pick(9, 1), threads)
