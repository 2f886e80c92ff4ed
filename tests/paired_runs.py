"""Small runs written down twice: for the scripts of `scripts/`, and for `fedfast.Simulation`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from federation import flat
from scripts.run import CLASSES, HIDDEN, INPUTS, Run
from torch import Tensor, nn

import fedfast
from fedfast.algorithms import Algorithm

SIZES = [5, 9, 2, 12, 7]  # unequal: 4, 6, 2, 6 and 4 local steps
COHORTS = [[0, 2, 3], [1, 4], [3, 0, 4], [2, 1, 0], [3, 4]]  # everybody skips rounds
WIDTH = 4


def data(sizes: list[int] = SIZES) -> list[tuple[Tensor, Tensor]]:
    """Gaussian inputs and labels that they do not explain: gradients stay large."""
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randn(n, INPUTS, generator=generator, dtype=torch.float64),
            torch.randint(CLASSES, (n,), generator=generator),
        )
        for n in sizes
    ]


def epochs(n: int, count: int, seed: int) -> list[list[list[int]]]:
    """`count` epochs of n samples, each in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(n, generator=generator).tolist() for _ in range(count)]
    return [[order[b : b + WIDTH] for b in range(0, n, WIDTH)] for order in orders]


def network(w: Tensor) -> nn.Module:
    """The scripts' network with the flat weights w."""
    net = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES)).double()
    nn.utils.vector_to_parameters(w, net.parameters())
    return net


def weights(count: int = 31, seed: int = 8) -> Tensor:
    """Initial weights [P] float64."""
    return 0.5 * torch.randn(count, generator=torch.Generator().manual_seed(seed)).double()


def free(rounds: int = len(COHORTS), local_epochs: int = 2, **change) -> Run:
    """Nothing clipped; clients weigh by their samples."""
    sizes = change.pop("sizes", SIZES)
    cohorts = change.pop("cohorts", COHORTS)[:rounds]
    run = Run(
        w0=weights(),
        data=data(sizes),
        cohorts=cohorts,
        epochs=[
            [epochs(sizes[k], local_epochs, 100 * t + k) for k in cohort]
            for t, cohort in enumerate(cohorts)
        ],
        lr=0.3,
        lr_decay=0.9,
        weight_decay=1e-3,
        clip_norm=None,
        server_lr=1.0,
        by_samples=True,
    )
    return replace(run, **change)


def bound(**change) -> Run:
    """Clipped at nearly every step; clients weigh alike; the server takes shorter steps."""
    tight = dict(clip_norm=0.3, weight_decay=1e-2, server_lr=0.7, by_samples=False)
    return free(**(tight | change))


def simulation(
    run: Run, algorithm: Algorithm, frozen: Collection[str] = (), **kwargs
) -> fedfast.Simulation:
    """The same run for the engine; clients hold float64 data. frozen: parameters not trained"""
    batches = [[[b for e in client for b in e] for client in round] for round in run.epochs]
    same = ("lr", "lr_decay", "weight_decay", "clip_norm", "server_lr")
    settings = {name: getattr(run, name) for name in same} | dict(
        schedule=fedfast.Schedule.explicit(run.cohorts, batches),
        local_epochs=len(run.epochs[0][0]),
        aggregation="samples" if run.by_samples else "uniform",
        dtype=torch.float64,
        backend="native",
    )
    xs, ys = zip(*run.data, strict=True)
    clients = fedfast.FederatedData.from_arrays(list(xs), list(ys))
    net = network(run.w0)
    for name in frozen:
        net.get_parameter(name).requires_grad_(False)
    return fedfast.Simulation(net, clients, algorithm, **(settings | kwargs))


def path(sim: fedfast.Simulation) -> Tensor:
    """Our weights after every round. [T, P] float64"""
    return torch.stack([flat(sim.state_dict()) for _ in sim])
