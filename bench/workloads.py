"""The federations of the round benchmark: shapes of the papers, synthetic samples.

Samples are Gaussian and labels random: the time of a round does not depend on what is learned. All
clients are of one size, so that every simulator, `vmap` included, can train them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from sizes import pick
from torch import Tensor, nn

from fedfast import FederatedData, Schedule
from fedfast.data import Samples
from fedfast.models import build

CLASSES = 10
LR = 0.01  # small, so that no run diverges or meets denormal numbers, which take longer
RHO = 0.05


@dataclass(frozen=True)
class Workload:
    """A federation and a model.

    clients  N of `samples` each; cohort K of them train in a round, one epoch in batches of `batch`
    rounds   timed by default, so that all workloads together take some minutes on two cores
    compiles whether vmap under torch.compile is worth a try
    """

    name: str
    model: str
    shape: tuple[int, ...]
    clients: int
    samples: int
    cohort: int
    batch: int
    rounds: int
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    compiles: bool = True

    @property
    def title(self) -> str:
        """One line for the table."""
        options = " ".join(f"{key}={value}" for key, value in self.options.items())
        return (
            f"{self.name}: {self.model} {options}{' ' if options else ''}on "
            f"{'x'.join(map(str, self.shape))}, {self.clients} clients x {self.samples} samples, "
            f"{self.cohort} per round, B = {self.batch}"
        )

    def module(self) -> nn.Module:
        """The model, seeded."""
        return build(self.model, input_shape=self.shape, classes=CLASSES, **self.options)

    def data(self) -> FederatedData:
        """The clients' synthetic samples."""
        generator = torch.Generator().manual_seed(0)
        n = self.clients * self.samples
        x = torch.randn(n, *self.shape, generator=generator)
        y = torch.randint(CLASSES, (n,), generator=generator)
        return FederatedData.from_index(Samples(x, y), np.arange(n).reshape(self.clients, -1))

    def schedule(self, rounds: int) -> Schedule:
        """Round 0 warms up, every client taking its first and its last batch; then `rounds`."""
        drawn = Schedule.draw(
            np.full(self.clients, self.samples),
            rounds=rounds + 1,
            participation=self.cohort / self.clients,
            local_epochs=1,
            batch_size=self.batch,
            seed=0,
        )
        plans = [drawn.round(t) for t in range(rounds + 1)]
        steps = [[_steps(*plan.batches([j])) for j in range(len(plan.clients))] for plan in plans]
        steps[0] = [[*client[:1], *client[-1:]] for client in steps[0]]
        return Schedule.explicit([plan.clients for plan in plans], steps)

    def flops(self) -> float:
        """Floating-point operations of a FedAvg round: those of the multiply-adds it cannot avoid.

        A layer's forward pass, its weight gradient and its input gradient take the same number; the
        first layer needs no input gradient. Two operations each; nothing else is counted.
        """
        layers = multiply_adds(self.module(), self.shape)
        per_sample = 3 * sum(layers) - layers[0]
        return 2.0 * per_sample * self.cohort * self.samples


def _steps(index: Tensor, count: Tensor) -> list[np.ndarray]:
    """One client's batches without their padding. index [1, T, B], count [1, T]."""
    return [index[0, s, :n].numpy() for s, n in enumerate(count[0].tolist()) if n]


def multiply_adds(model: nn.Module, shape: tuple[int, ...]) -> list[int]:
    """Multiply-adds of one sample's forward pass in each linear and convolution, first to last.

    Every weight is used once per output position.
    """
    found: list[int] = []

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        positions = prod(output.shape[2:])
        found.append(layer.weight.numel() * positions)

    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        model(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return found


GREY, COLOUR = (1, 28, 28), (3, 32, 32)
SMALL = {"channels": (4, 12), "hidden": (1024, 1024)}
WIDE = {"channels": (32, 64), "hidden": (512,)}

_FULL = (
    # FedAvg's CNN, 1,663,370 parameters
    Workload("W1", "cnn", GREY, 100, 500, 10, 50, 2),
    # FedFSA's CNN, and the same convolutions 32 and 64 wide; 480 samples make ten full batches
    Workload("W1b", "lenet", GREY, 100, 480, 10, 48, 4, SMALL),
    Workload("W1c", "lenet", GREY, 100, 480, 10, 48, 3, WIDE),
    Workload("W2", "mlp", GREY, 100, 500, 10, 50, 15),
    # many small clients: a step is a few products of ten rows
    Workload("W3", "mlp", GREY, 1000, 50, 100, 10, 9),
    # the compiler takes a minute here, and what it makes is 3 to 4 times slower than eager vmap
    Workload("W4", "lenet", COLOUR, 100, 500, 5, 64, 2, compiles=False),
    # two of ten clients, two steps each: a full round would take all the benchmark's time
    Workload("W5", "resnet18-gn", COLOUR, 10, 64, 2, 32, 2, compiles=False),
)
_SMALLEST = tuple(
    replace(w, clients=4, samples=5, cohort=2, batch=3, rounds=1)
    for w in _FULL
    if w.name in ("W1b", "W2", "W3")  # models that take little time to prepare
)
WORKLOADS = pick(_FULL, _SMALLEST)
# What Triton's interpreter trains in a second.
TINY = Workload("tiny", "mlp", (1, 4, 4), 3, 4, 2, 2, 1, {"hidden": (6,)})
BY_NAME = {w.name: w for w in WORKLOADS}
