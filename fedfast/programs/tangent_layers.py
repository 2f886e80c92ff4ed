"""Tangents of activations, max pooling and embeddings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import kernels
from .apart import Rectified
from .elementwise import Activation
from .pooling import Pool
from .sequences import Embedding
from .tangents import Rule, TangentPass


def _rectified_forward(record: Rectified, t: TangentPass) -> None:
    Rectified.masked(t.at.value(record.output), t.value(record.output), t.backend)


def _rectified_backward(record: Rectified, t: TangentPass) -> None:
    record.mask(t, t.at.value(record.output))


def _derived(record: Activation, t: TangentPass, d: Tensor, out: Tensor) -> None:
    """`out = d act'(x)`."""
    x, y = t.at.value(record.inputs[0]), t.at.value(record.output)
    kernels.activation_backward(x, y, d, record.kind, slope=record.slope, dx=out, backend=t.backend)


def _activation_forward(record: Activation, t: TangentPass) -> None:
    _derived(record, t, t.value(record.inputs[0]), t.value(record.output))


def _activation_backward(record: Activation, t: TangentPass) -> None:
    """`R dx = R dy act'(x) + dy act''(x) Rx`."""
    dx = t.collect(record.inputs[0])
    if dx is None:
        return
    _derived(record, t, t.gradient(record.output), dx)
    if record.kind in SECOND:
        x, y = t.at.value(record.inputs[0]), t.at.value(record.output)
        curved = SECOND[record.kind](x, y) * t.value(record.inputs[0])
        dx.addcmul_(curved, t.at.gradient(record.output))


def _gelu(x: Tensor, y: Tensor) -> Tensor:
    return (2 - x * x) * torch.exp(-0.5 * x * x) * (2 * torch.pi) ** -0.5


def _silu(x: Tensor, y: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s * (1 - s) * (2 + x * (1 - 2 * s))


# act''(x) by kind, of x and y = act(x); those that are not here are straight between their kinks.
SECOND: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tanh": lambda x, y: -2 * y * (1 - y * y),
    "sigmoid": lambda x, y: y * (1 - y) * (1 - 2 * y),
    "gelu": _gelu,
    "silu": _silu,
}


def _pool_forward(record: Pool, t: TangentPass) -> None:
    """Max pooling: where the largest elements are at w."""
    if record.kind == "avg":
        return record.forward(t)
    x, y = t.value(record.inputs[0]), t.value(record.output)
    where = record._how(t, y)["argmax"].flatten(-2).long()
    y.flatten(-2).copy_(x.flatten(-2).gather(-1, where))


def _embedding_forward(record: Embedding, t: TangentPass) -> None:
    """The word `padding`, which has no gradient, has no tangent."""
    record.forward(t)
    if record.padding is not None:
        t.value(record.output).masked_fill_((t.x == record.padding)[..., None], 0.0)


RECTIFIED = Rule(_rectified_forward, _rectified_backward)
ACTIVATION = Rule(_activation_forward, _activation_backward)
POOL = Rule(_pool_forward, Pool.backward)
EMBEDDING = Rule(_embedding_forward, Embedding.backward)
