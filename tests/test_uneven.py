"""Cohorts of unlike clients: packed batches, whole cores, and the bits of clients trained alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from federation import (
    add,
    arrays,
    batches_of,
    fedavg,
    federation,
    final,
    flat,
    gradient,
    sam_gradient,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fedfast
from fedfast.algorithms import SCAFFOLD, FedSAM
from fedfast.batches import Packing

SIZES = [33, 1, 57, 9, 10, 11, 120, 3, 1, 24]  # batches of 10: whole ones, single samples, less
ALONE = dict(threads=1, chunk=1)
WAYS = [dict(threads=2), dict(threads=3, chunk=3), dict(threads=4)]


def network() -> nn.Module:
    """Wide enough that threads are worth waking for one step of the cohort."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(256, 96), nn.Tanh(), nn.Linear(96, 4))


def weights(algorithm: str, **options) -> Tensor:
    data = federation(SIZES, shape=(1, 16, 16))
    how = dict(rounds=2, participation=1.0, local_epochs=2, batch_size=10, lr=0.05)
    return final(network(), data, algorithm, **(how | options))


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsam", "fedasam", "scaffold", "fedgh"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_neither_threads_nor_chunks_leave_a_trace(algorithm: str, clip: float | None) -> None:
    alone = weights(algorithm, clip_norm=clip, **ALONE)
    assert alone.isfinite().all()
    for way in WAYS:
        assert torch.equal(weights(algorithm, clip_norm=clip, **way), alone), way


def test_module_executor_and_convolutions_leave_no_trace_either() -> None:
    def run(**options) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
            model = nn.Sequential(*layers, nn.Linear(196, 4))
        data = federation(SIZES, shape=(1, 16, 16))
        return final(model, data, "fedsam", rounds=1, participation=1.0, batch_size=10, **options)

    for loss in ("cross_entropy", F.cross_entropy):
        alone = run(loss=loss, **ALONE)
        for way in WAYS:
            assert torch.equal(run(loss=loss, **way), alone), (loss, way)


def local_step(rho: float) -> Callable[..., None]:
    """SGD's, or SAM's of that radius, with lr 0.05."""

    def step(module: nn.Module, x: Tensor, y: Tensor, *_: int) -> None:
        g = sam_gradient(module, x, y, rho, 1e-12) if rho else gradient(module, x, y)
        add(module, g, -0.05)

    return step


@pytest.mark.parametrize(("algorithm", "rho"), [("fedavg", 0.0), (FedSAM(rho=0.05), 0.05)])
@pytest.mark.parametrize("batch", [10, 500])
def test_a_client_is_trained_on_its_own_samples_alone(
    algorithm: str | FedSAM, rho: float, batch: int
) -> None:
    """As plain torch in float64 does it: clients of one sample, batches wider than all of them."""
    xs, ys = arrays(SIZES, shape=(1, 16, 16))
    data = fedfast.FederatedData.from_arrays(xs, ys)
    how = dict(rounds=2, participation=1.0, batch_size=batch, lr=0.05, threads=2)
    sim = fedfast.Simulation(network(), data, algorithm, **how)
    assert sim.generic_because == ""
    rounds = [batches_of(sim.schedule.round(t)) for t in range(2)]
    sim.run(progress=False)
    work = [list(plan) for plan in rounds], [list(plan.values()) for plan in rounds]
    samples = [x.double() for x in xs], ys
    expected = fedavg(network().double(), samples, *work, step=local_step(rho))
    found, wanted = flat(sim.state_dict()), flat(expected.state_dict())
    torch.testing.assert_close(found, wanted, rtol=0, atol=3e-7)
    assert (wanted - flat(network().state_dict())).abs().max() > 1e-3


def test_full_gradients_where_sizes_do_not_fall_as_steps_do() -> None:
    """Whole batches only: 19 and 10 samples are one step both, but two batches and one."""

    def run(chunk: int) -> Tensor:
        data = federation([10, 19, 11, 32], shape=(1, 16, 16))
        how = dict(rounds=2, participation=1.0, batch_size=10, drop_last=True, chunk=chunk)
        return final(network(), data, SCAFFOLD(option="I"), **how)

    assert torch.equal(run(chunk=4), run(chunk=1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_packed_batches_are_all_there_step_by_step(steps: list[int]) -> None:
    steps = sorted(steps, reverse=True)
    packing = Packing.of(np.array(steps))
    pairs = [(s, k) for s in range(max(steps)) for k in range(len(steps)) if s < steps[k]]
    assert list(zip(packing.step, packing.client, strict=True)) == pairs
    assert packing.lines == len(pairs) and packing.active == [
        sum(each > s for each in steps) for s in range(max(steps))
    ]
    for line, (s, k) in enumerate(pairs):
        assert packing.begins[s] + k == line
    ones = torch.ones(packing.lines, dtype=torch.int32)
    assert packing.sums(ones, len(steps)).tolist() == steps


def test_memory_of_batches_is_that_of_the_steps_taken() -> None:
    """One client of many steps among many of one: no row of all is as long as the longest."""
    sizes = [1000] + [1] * 200
    data = federation(sizes, shape=(2,))
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 4))
    sim = fedfast.Simulation(model, data, rounds=1, participation=1.0, batch_size=1)
    engine, plan = sim._engine, sim.schedule.round(0)
    work = engine.batches(engine.trainer, 0, plan, np.argsort(-plan.steps, kind="stable"))
    assert work.rows.shape == (1200, 1) and work.seen.tolist() == sizes
