"""`fedfast.optim` beside the class that projects copy, from its formulas; one thread, CPU time.

"step" is a whole training step (two forward and backward passes of 50 samples), "optimizer" what
the optimizer does of it. The base optimizer is torch's SGD with momentum. "plain SGD" has one
gradient: what sharpness costs. "deep" has many small tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from marks import THREAD_TIME, beside
from sizes import pick
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedfast import optim

pytestmark = THREAD_TIME
SGD: dict[str, Any] = dict(base_optimizer=torch.optim.SGD, lr=1e-4, momentum=0.9)
BATCH = pick(50, 2)


class PerTensor(torch.optim.Optimizer):
    """SAM tensor by tensor; adaptive: t = |w|."""

    def __init__(
        self, params: Iterable[Tensor], base_optimizer: Any, adaptive: bool = False, **options: Any
    ) -> None:
        super().__init__(params, dict(rho=0.05, adaptive=adaptive, **options))
        self.base_optimizer = base_optimizer(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    def _held(self) -> Iterable[tuple[dict[str, Any], Tensor, Tensor]]:
        for group in self.param_groups:
            yield from ((group, p, p.grad) for p in group["params"] if p.grad is not None)

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        """To w + e."""
        norms = [((p.abs() if g["adaptive"] else 1.0) * d).norm() for g, p, d in self._held()]
        norm = torch.norm(torch.stack(norms))
        for group, p, grad in self._held():
            self.state[p]["old_p"] = p.data.clone()
            t2 = p.square() if group["adaptive"] else 1.0
            p.add_(t2 * grad * (group["rho"] / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        """Back, and the step."""
        for _, p, _ in self._held():
            p.data = self.state[p]["old_p"]
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()


def mlp() -> nn.Module:
    """784-200-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))


def cnn() -> nn.Module:
    """McMahan et al. 2017, P = 1,663,370."""
    convolutions = nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)
    more = nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    return nn.Sequential(*convolutions, *more, nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 10))


def deep() -> nn.Module:
    """40 layers of 64 units."""
    layers = [layer for _ in range(40) for layer in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), *layers, nn.Linear(64, 10))


MODELS = pick({"mlp": mlp, "cnn": cnn, "deep": deep}, {"mlp": mlp})
KINDS: dict[str, Callable[..., Any]] = {
    "fedfast": optim.SAM,
    "per tensor": PerTensor,
    "fedfast ASAM": lambda params, **options: optim.SAM(params, adaptive=True, **options),
    "per tensor ASAM": lambda params, **options: PerTensor(params, adaptive=True, **options),
}


@pytest.mark.parametrize("model", MODELS)
@beside("per tensor", "fedfast ASAM", "per tensor ASAM", "plain SGD")
def test_step(contestant: str, model: str, benchmark: Any) -> None:
    torch.manual_seed(0)
    x, y, module = torch.randn(BATCH, 1, 28, 28), torch.randint(10, (BATCH,)), MODELS[model]()
    if contestant == "plain SGD":
        plain = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)
    else:
        optimizer = KINDS[contestant](module.parameters(), **SGD)

    def one() -> None:
        cross_entropy(module(x), y).backward()
        plain.step()
        plain.zero_grad()

    def two() -> None:
        cross_entropy(module(x), y).backward()
        optimizer.first_step(zero_grad=True)
        cross_entropy(module(x), y).backward()
        optimizer.second_step(zero_grad=True)

    benchmark.group = f"training step, {model}"
    benchmark.extra_info["samples"] = BATCH
    action = one if contestant == "plain SGD" else two
    benchmark.pedantic(action, rounds=pick(30, 1), warmup_rounds=2)


@pytest.mark.parametrize("model", MODELS)
@beside("per tensor", "fedfast ASAM", "per tensor ASAM")
def test_optimizer(contestant: str, model: str, benchmark: Any) -> None:
    module = MODELS[model]()
    optimizer = KINDS[contestant](module.parameters(), **SGD)
    for p in module.parameters():
        p.grad = torch.randn_like(p) * 1e-3

    def both() -> None:
        optimizer.first_step()
        optimizer.second_step()

    benchmark.group = f"optimizer alone, {model}"
    benchmark.pedantic(both, rounds=pick(50, 1), warmup_rounds=5)
