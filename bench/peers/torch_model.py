"""The workloads' models in plain torch, for peers without fedfast."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from .protocol import Task

CLASSES = 10


def module(task: Task) -> nn.Sequential:
    """`fedfast.models.build(task.model)` with the initial weights."""
    net = {"mlp": _mlp, "cnn": _cnn}[task.model](task.shape)
    load(net, task.weights)
    return net


def _mlp(shape: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(shape), 200), nn.ReLU(), nn.Linear(200, CLASSES)
    )


def _cnn(shape: tuple[int, ...]) -> nn.Sequential:
    """The CNN of McMahan et al. 2017."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 512),
        nn.ReLU(),
        nn.Linear(512, CLASSES),
    )


@torch.no_grad()
def load(net: nn.Module, weights: list[np.ndarray]) -> None:
    """Write the parameters."""
    for parameter, value in zip(net.parameters(), weights, strict=True):
        parameter.copy_(torch.from_numpy(value))


def weights(net: nn.Module) -> list[np.ndarray]:
    """Copies of the parameters."""
    return [p.detach().numpy().copy() for p in net.parameters()]


def use(setting: str) -> None:
    """ "2 threads": so many inside torch's operations."""
    torch.set_num_threads(int(setting.split()[0]))


class Samples:
    """The samples as tensors; a client's batches are cut from one gather."""

    def __init__(self, task: Task) -> None:
        self.task, self.x, self.y = task, torch.from_numpy(task.x), torch.from_numpy(task.y)

    def own(self, t: int, j: int) -> tuple[Tensor, Tensor]:
        """What the cohort's client j uses in round t, in the order of use."""
        rows = torch.from_numpy(self.task.rows(t, j).ravel())
        return self.x[rows], self.y[rows]

    def batches(self, t: int, j: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The same in batches, counted."""
        x, y = (part.split(self.task.batch_size) for part in self.own(t, j))
        return self.task.counted(zip(x, y, strict=True))
