"""Section `runs`: whole runs of every algorithm, recorded against eager and GPU against CPU.

Small models and ragged clients, four rounds. Recorded steps have to be the eager run to the bit;
the CPU's run, whose sums have another order, is as far away as float32 takes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from fedfast import FederatedData, Simulation, client_loop, models
from fedfast.algorithms.base import ALGORITHMS
from gpu_sections.campaign import Campaign

SIZES, CLASSES = (9, 4, 13, 1, 6), 4
NEAR = 1e-4  # relative distance of float32 runs whose sums have another order


def data() -> FederatedData:
    """Five clients with 1 to 13 images of 6 x 6."""
    generator = torch.Generator().manual_seed(3)
    xs = [torch.randn(n, 1, 6, 6, generator=generator) for n in SIZES]
    ys = [torch.randint(CLASSES, (n,), generator=generator) for n in SIZES]
    return FederatedData.from_arrays(xs, ys)


# Settings that an algorithm demands.
OWN = {"fedsgd": {"batch_size": None, "local_epochs": 1}}
REHEARSED = ("fedavg", "fedsam", "fedsgd", "fedcr")


def stochastic() -> nn.Module:
    """FedCR's, an encoder of Gaussians under a head."""
    sizes: dict[str, object] = dict(body="mlp", hidden=[8], dimZ=3, seed=1)
    return models.build("stochastic", input_shape=(1, 6, 6), classes=CLASSES, **sizes)


def model() -> nn.Module:
    """A convolution with running statistics, and a dense layer; the same every time."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, CLASSES)
    return nn.Sequential(*layers)


def trained(algorithm: str, device: str, backend: str, rounds: int) -> tuple[Tensor, list[float]]:
    """The final model as one row, on the CPU, and the training losses."""
    options = dict(participation=0.8, local_epochs=2, batch_size=4, lr=0.05, lr_decay=0.7, seed=5)
    options |= dict(device=device, backend=backend, rounds=rounds) | OWN.get(algorithm, {})
    net = stochastic() if algorithm == "fedcr" else model()
    sim = Simulation(net, data(), algorithm, **options)
    sim.run(progress=False)
    state = sim.state_dict().values()
    row = torch.cat([t.detach().flatten().double().cpu() for t in state if t.is_floating_point()])
    return row, [row.train_loss for row in sim.history]


@contextmanager
def eager() -> Iterator[None]:
    """Nothing is recorded within."""
    before = client_loop.recorder_for, client_loop.tuning_recorder
    client_loop.recorder_for = client_loop.tuning_recorder = lambda *_: None
    try:
        yield
    finally:
        client_loop.recorder_for, client_loop.tuning_recorder = before


def run(campaign: Campaign) -> None:
    """Every algorithm; one that fails is a row, and the next one follows."""
    for name in REHEARSED if campaign.rehearsal else ALGORITHMS:
        with campaign.trying(name):
            _compare(campaign, name)


def launches(campaign: Campaign) -> None:
    """What a campaign launches here, for `compiling.py`."""
    for name in REHEARSED if campaign.rehearsal else ALGORITHMS:
        with campaign.trying(name):
            trained(name, str(campaign.device), "triton", campaign.pick(4, 1))


def _compare(campaign: Campaign, name: str) -> None:
    rounds = campaign.pick(4, 1)
    ours, losses = trained(name, str(campaign.device), "triton", rounds)
    if campaign.timed:
        with eager():
            plain, plain_losses = trained(name, str(campaign.device), "triton", rounds)
        alike = torch.equal(ours, plain) and np.array_equal(losses, plain_losses)
        campaign.row(name, "recorded is eager", str(alike), headline=not alike)
    cpu, _ = trained(name, "cpu", "auto", rounds)
    distance = float((ours - cpu).norm() / cpu.norm())
    campaign.row(name, "distance from the CPU", distance, headline=not distance <= NEAR)
