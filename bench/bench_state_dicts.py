"""`fedfast.aggregate` of K state dicts beside what server loops do; one thread, CPU time.

"loop" adds `weight * tensor` in float32, as most published servers; "float64 loop" is as exact as
ours; "stack" stacks all models; "flwr" is Flower's mean of lists of arrays, which share the
tensors' memory. "one bank" is ours for models that lie in one tensor `[K, S]`, as a cohort's do.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch
from buffers import CNN, normal
from marks import THREAD_TIME, beside
from sizes import pick
from torch import Tensor

import fedfast

pytestmark = THREAD_TIME
MLP = ((200, 784), (200,), (10, 200), (10,))  # P = 159,010; the CNN 1,663,370
MODELS = pick({"mlp": MLP, "cnn": CNN}, {"mlp": ((3, 4), (3,))})
State = dict[str, Tensor]


def loop(models: list[State], weights: list[float], dtype: torch.dtype) -> State:
    """The mean, model after model."""
    total, mean = sum(weights), {n: torch.zeros_like(t, dtype=dtype) for n, t in models[0].items()}
    for model, weight in zip(models, weights, strict=True):
        for name, tensor in model.items():
            mean[name] += weight / total * tensor.to(dtype)
    return {name: tensor.to(models[0][name].dtype) for name, tensor in mean.items()}


def stack(models: list[State], weights: list[float]) -> State:
    """The mean of all models in one tensor."""
    share = torch.tensor(weights) / sum(weights)
    return {n: torch.tensordot(share, torch.stack([m[n] for m in models]), 1) for n in models[0]}


def flower(models: list[State], weights: list[float]) -> Callable[[], object]:
    """Flower's mean."""
    module = pytest.importorskip("flwr.server.strategy.aggregate")
    arrays = [[t.numpy() for t in model.values()] for model in models]
    return lambda: module.aggregate(list(zip(arrays, weights, strict=True)))


def action(contestant: str, shapes: tuple[tuple[int, ...], ...], k: int) -> Callable[[], object]:
    """What is timed."""
    weights = [float(100 + i) for i in range(k)]
    if contestant == "one bank":
        bank = normal(k, sum(map(prod, shapes)))
        return lambda: fedfast.aggregate(bank, weights)
    models = [{f"p{i}": normal(*shape) for i, shape in enumerate(shapes)} for _ in range(k)]
    if contestant == "flwr":
        return flower(models, weights)
    return {
        "fedfast": lambda: fedfast.aggregate(models, weights),
        "loop": lambda: loop(models, weights, torch.float32),
        "float64 loop": lambda: loop(models, weights, torch.float64),
        "stack": lambda: stack(models, weights),
    }[contestant]


@pytest.mark.parametrize("k", pick([10, 100], [2]))
@pytest.mark.parametrize("model", MODELS)
@beside("one bank", "loop", "float64 loop", "stack", "flwr")
def test_aggregate(contestant: str, model: str, k: int, benchmark: Any) -> None:
    shapes = MODELS[model]
    benchmark.group = f"aggregate {k} state dicts, {model}"
    benchmark.extra_info["bytes"] = 4 * k * sum(map(prod, shapes))
    benchmark.pedantic(action(contestant, shapes, k), rounds=5, warmup_rounds=1)
