"""Tangents of norms, LSTMs and log-softmax: by torch's double backward of a formula.

A formula is a layer on one client's batch [B, ...], made of basic operations. A client at a time,
so that its bits do not depend on its company.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .elementwise import LogSoftmax
from .normalization import BatchNorm, GroupNorm, LayerNorm, Norm
from .records import Record
from .sequences import Layer, Lstm
from .tangents import Rule, TangentPass

Named = dict[str, Tensor]


def _normal(x: Tensor, over: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(over, keepdim=True)
    return centred * (centred.square().mean(over, keepdim=True) + eps).rsqrt()


def _affine(record: Norm, x: Tensor, w: Named, shape: tuple[int, ...]) -> Tensor:
    x = x * w[record.weight].view(shape) if record.weight is not None else x
    return x + w[record.bias].view(shape) if record.bias is not None else x


def _group_norm(record: GroupNorm, x: Tensor, w: Named) -> Tensor:
    grouped = x.reshape(x.shape[0], record.groups, -1)
    normal = _normal(grouped, (2,), record.eps).reshape(x.shape)
    return _affine(record, normal, w, (1, -1, *[1] * (x.ndim - 2)))


def _layer_norm(record: LayerNorm, x: Tensor, w: Named) -> Tensor:
    over = tuple(range(-len(record.shape), 0))
    return _affine(record, _normal(x, over, record.eps), w, record.shape)


def _batch_norm(record: BatchNorm, x: Tensor, w: Named) -> Tensor:
    assert record.running is not None
    shape = (1, -1, *[1] * (x.ndim - 2))
    mean, var = (w[name].view(shape) for name in record.running)
    return _affine(record, (x - mean) * (var + record.eps).rsqrt(), w, shape)


def _lstm_layer(layer: Layer, x: Tensor, w: Named) -> Tensor:
    ahead = x @ w[layer.weight_ih].T
    for name in (layer.bias_ih, layer.bias_hh):
        ahead = ahead if name is None else ahead + w[name]
    h = c = x.new_zeros(x.shape[0], w[layer.weight_hh].shape[1])
    found = []
    for step in range(x.shape[1]):
        i, f, g, o = (ahead[:, step] + h @ w[layer.weight_hh].T).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        found.append(h)
    return torch.stack(found, 1)


def _lstm(record: Lstm, x: Tensor, w: Named) -> Tensor:
    for layer in record.layers:
        x = _lstm_layer(layer, x, w)
    return x


def _log_softmax(record: LogSoftmax, x: Tensor, w: Named) -> Tensor:
    return x - x.logsumexp(-1, keepdim=True)


FORMULAS: dict[type[Record], Callable[..., Tensor]] = {
    GroupNorm: _group_norm,
    LayerNorm: _layer_norm,
    BatchNorm: _batch_norm,
    Lstm: _lstm,
    LogSoftmax: _log_softmax,
}


@dataclass(frozen=True)
class _Point:
    """A layer on client k's batch: leaves (input, then weights) and the tangents of those."""

    leaves: list[Tensor]
    along: list[Tensor]
    y: Tensor

    @classmethod
    def of(cls, record: Record, t: TangentPass, k: int) -> _Point:
        """With the graph of the layer's output."""
        x = record.inputs[0]
        held = {name: t.at.parameter(name)[k] for name in _names(record)}
        leaves = {name: held[name].detach().requires_grad_() for name in record.parameters}
        first = t.at.value(x)[k].detach().requires_grad_()
        y = FORMULAS[type(record)](record, first, held | leaves)
        along = [t.value(x)[k], *(t.parameter(name)[k] for name in record.parameters)]
        return cls([first, *leaves.values()], along, y)

    def gradients(self, of: Tensor, keep: bool = False) -> tuple[Tensor, ...]:
        """By the leaves."""
        return torch.autograd.grad(of, self.leaves, create_graph=keep, materialize_grads=True)

    def inner(self, d: Tensor) -> Tensor:
        """`<d y by the leaves along their tangents, d>`."""
        parts = zip(self.gradients((self.y * d).sum(), keep=True), self.along, strict=True)
        return torch.stack([(g * r).sum() for g, r in parts]).sum()


def _names(record: Record) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*record.weights, *record.constants)))


@torch.enable_grad()
def _forward(record: Record, t: TangentPass) -> None:
    """Ry is what `<Ry, d>` is linear in."""
    out = t.value(record.output)
    for k in range(t.clients):
        point = _Point.of(record, t, k)
        d = torch.zeros_like(point.y, requires_grad=True)
        (out[k],) = torch.autograd.grad(point.inner(d), d)


@torch.enable_grad()
def _backward(record: Record, t: TangentPass) -> None:
    """`R (f_u^T dy) = (R f_u)^T dy + f_u^T R dy`, u the input and the weights."""
    dx = t.collect(record.inputs[0])
    sinks = [t.sink(name) for name in record.parameters]
    for k in range(t.clients):
        point = _Point.of(record, t, k)
        curved = point.inner(t.at.gradient(record.output)[k])
        straight = (point.y * t.gradient(record.output)[k]).sum()
        rdx, *rdw = point.gradients(curved + straight)
        if dx is not None:
            dx[k] = rdx
        for part, sink in zip(rdw, sinks, strict=True):
            if sink is not None:  # a tied weight adds to what its other layer left
                sink.out[k] = part + sink.out[k] if sink.beta else part


FORMULA = Rule(_forward, _backward)
