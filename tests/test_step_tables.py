"""What the memory plan counts of a step's tables is what recorded steps hold, by algorithm.

On the emulated device; whatever the hooks ask for is found in the tensors themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from federation import federation, mlp

import fedfast
from fedfast import memory
from fedfast.client_sampling import Schedule
from fedfast.data import Augment
from fedfast.recorded_steps import TABLES, RecordedSteps

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from emulated_cuda import Device  # noqa: E402
from test_cuda_graph import model  # noqa: E402
from test_emulated_rounds import (  # noqa: E402
    RECORDED,
    emulated,
    images,
    pytestmark,  # noqa: F401
    simulation,
    stochastic,
)
from test_step_launches import OTHERS  # noqa: E402

EPOCHS, BATCHES, WIDTH = 3, 2, 4  # two batches of four samples in each of three epochs
LINE = 8 * WIDTH + 4  # bytes
# Bytes by chunk of a correction that is folded: it is written down before the first step.
FOLDED = {"fedwmsam": 4 * 4, "fedwmsam, official": 4 * 4}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    with emulated(monkeypatch, computes=False) as found:
        yield found


def trained(net: Any, data: Any, algorithm: Any, **options: Any) -> fedfast.Simulation:
    """Two rounds of all clients."""
    settings: dict[str, Any] = dict(local_epochs=EPOCHS, rounds=2, participation=1.0)
    sim = simulation(net, data, algorithm, **settings | options)
    sim.run(progress=False)
    return sim


def recorded(sim: fedfast.Simulation) -> RecordedSteps:
    steps = sim._engine.trainer.replay
    assert steps is not None
    return steps


def lines(sim: fedfast.Simulation) -> int:
    """Bytes of the lines of batches, for a client."""
    held = recorded(sim).held
    return sum(held.whole(name).nbytes for name in TABLES if name in held) // sim.chunk


def numbers(sim: fedfast.Simulation) -> int:
    """Bytes of the hooks' numbers, for a client."""
    found = recorded(sim).numbers
    tensors = [found._tables, found._now, *(t for each in found._of_chunks.values() for t in each)]
    return sum(t.nbytes for t in tensors) // sim.chunk


@pytest.mark.parametrize("name", [*RECORDED, *OTHERS])
def test_every_number_that_hooks_ask_for_is_counted(name: str, device: Device) -> None:
    """The rate of steps that are folded into products is none of them."""
    algorithm, options = OTHERS.get(name, (name, {}))
    net = stochastic() if name == "fedcr" else mlp()
    sim = trained(net, federation([BATCHES * WIDTH] * 4), algorithm, **options)
    design = sim._design
    assert design.longest == EPOCHS * BATCHES * (4 if name == "centralized" else 1)
    counted = memory.table_bytes(design.layout, design.algorithm, design.longest, WIDTH)
    rest = counted - design.longest * LINE - numbers(sim)
    assert rest in (0, FOLDED.get(name, 0) + 4 * (2 * design.longest + 1))
    assert lines(sim) == design.longest * LINE


def test_rates_and_seeds_and_moves_are_counted(device: Device) -> None:
    net = torch.nn.Sequential(model(), torch.nn.Dropout(0.5))
    sim = trained(net, images(BATCHES * WIDTH), "fedavg", augment=Augment(pad=1, flip=True))
    design = sim._design
    sizes = design.layout, design.algorithm, design.longest, WIDTH
    more = memory.table_bytes(*sizes, augments=True, draws=True) - memory.table_bytes(*sizes)
    assert lines(sim) == design.longest * LINE + more


def test_the_plan_of_a_run_on_a_device_has_them(device: Device) -> None:
    """Four steps more are four lines, and rates with room for twice as many."""

    def planned(epochs: int, where: str = "cuda:0") -> int:
        data = federation([BATCHES * WIDTH] * 4)
        return simulation(mlp(), data, "fedavg", local_epochs=epochs, device=where).memory.each

    assert planned(3) - planned(1) == 4 * LINE + 8 * 4
    assert planned(3, "cpu") == planned(1, "cpu")


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_longest_is_what_the_largest_client_takes(drop_last: bool) -> None:
    sizes = [9, 4, 30, 2]
    how: dict[str, Any] = dict(rounds=1, participation=1.0, batch_size=4, local_epochs=3, seed=0)
    drawn = Schedule.draw(sizes, **how, drop_last=drop_last)
    assert drawn.longest == drawn.round(0).steps.max() == 3 * (7 if drop_last else 8)
    assert Schedule.explicit([[0, 1], [1]], [[[[0]], [[0], [1]]], [[[0]] * 5]]).longest == 5
