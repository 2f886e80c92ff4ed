"""Rounds of a model that is frozen but for products of low rank; one thread, CPU time.

"fedfast" is the program that `Simulation` makes of the model; "module" the module executor, which
trained models with frozen parameters before programs took them; "all trained" the same model with
nothing frozen, as a program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from marks import THREAD_TIME, beside
from sizes import pick
from torch import Tensor, nn

import fedfast

pytestmark = THREAD_TIME
HIDDEN, CLIENTS, SAMPLES = pick((2048, 8, 128), (16, 2, 20))
RANK, ROUNDS = 5, 4


class Low(nn.Module):
    """A dense layer and a product of low rank beside it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.down, self.up = nn.Linear(inputs, RANK, bias=False), nn.Linear(RANK, outputs, False)

    def forward(self, x: Tensor) -> Tensor:
        """Their sum."""
        return self.base(x) + self.up(self.down(x)) * 2


def model(frozen: bool) -> nn.Module:
    """784-2048-2048-10, 23 MB of float32; trained are 0.18 MB of them, or all."""
    torch.manual_seed(0)
    sizes = (784, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 10)
    layers = [layer for size in sizes for layer in (Low(*size), nn.ReLU())][:-1]
    for layer in layers[::2]:
        layer.get_submodule("base").requires_grad_(not frozen)
    return nn.Sequential(nn.Flatten(), *layers)


def simulation(kind: str, algorithm: str, batch: int) -> fedfast.Simulation:
    """One of the contestants."""
    torch.manual_seed(1)
    xs, ys = torch.rand(CLIENTS, SAMPLES, 1, 28, 28), torch.randint(10, (CLIENTS, SAMPLES))
    data = fedfast.FederatedData.from_arrays(list(xs), list(ys))
    loss: str | Callable[[Tensor, Tensor], Tensor] = "cross_entropy"
    if kind == "module":
        loss = lambda z, y: F.cross_entropy(z, y)  # noqa: E731 - a callable takes the module
    run = dict(rounds=ROUNDS + 1, participation=1.0, local_epochs=1, batch_size=batch, lr=1e-3)
    frozen = kind != "all trained"
    return fedfast.Simulation(model(frozen), data, algorithm, loss=loss, threads=1, **run)


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsam"])
@pytest.mark.parametrize("batch", [10, 32])
@beside("module", "all trained")
def test_frozen(algorithm: str, batch: int, contestant: str, benchmark: Any) -> None:
    sim = simulation(contestant, algorithm, batch)
    benchmark.group = f"frozen {algorithm}, B = {batch}"
    benchmark.extra_info |= {
        "samples": CLIENTS * SAMPLES,
        "mb_trained": round(4e-6 * sim.layout.parameters, 3),
        "mb_client_rows": round(4e-6 * sim.layout.stride, 3),
        "mb_client": round(1e-6 * sim.memory.each, 2),
        "mb_sent": round(1e-6 * sum(sim.traffic) / 2, 3),
    }
    benchmark.pedantic(next, args=(iter(sim),), rounds=ROUNDS, warmup_rounds=1)
