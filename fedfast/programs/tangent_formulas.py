"""Tangents of norms, LSTMs and log-softmax: by torch's forward mode over the vjp of a formula.

A formula is a layer on one client's batch [B, ...], made of basic operations. A client at a time,
so that its bits do not depend on its company.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vjp

from .elementwise import LogSoftmax
from .normalization import BatchNorm, GroupNorm, LayerNorm, Norm
from .records import Record
from .sequences import Layer, Lstm
from .tangents import Rule, TangentPass

Named = dict[str, Tensor]
# Versions of torch differ in what they say of the types of these.
_jvp: Callable[..., Any] = jvp
_vjp: Callable[..., Any] = vjp


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


FORMULAS: dict[type[Record], Callable[[Any, Tensor, Named], Tensor]] = {
    GroupNorm: _group_norm,
    LayerNorm: _layer_norm,
    BatchNorm: _batch_norm,
    Lstm: _lstm,
    LogSoftmax: _log_softmax,
}


def _names(record: Record) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*record.weights, *record.constants)))


def _point(record: Record, t: TangentPass, k: int) -> tuple[Tensor, Named, Tensor, Named]:
    """Client k's input and weights, and the tangents of both."""
    x, v = record.inputs[0], record.parameters
    w = {name: t.at.parameter(name)[k] for name in _names(record)}
    along = {n: t.parameter(n)[k] if n in v else torch.zeros_like(w[n]) for n in w}
    return t.at.value(x)[k], w, t.value(x)[k], along


def _forward(record: Record, t: TangentPass) -> None:
    formula, out = FORMULAS[type(record)], t.value(record.output)
    for k in range(t.clients):
        x, w, rx, rw = _point(record, t, k)
        _, out[k] = _jvp(lambda x, w: formula(record, x, w), (x, w), (rx, rw))


def _backward(record: Record, t: TangentPass) -> None:
    formula, dx = FORMULAS[type(record)], t.collect(record.inputs[0])
    dy, rdy = t.at.gradient(record.output), t.gradient(record.output)
    sinks = {name: t.sink(name) for name in record.parameters}

    def gradients(x: Tensor, w: Named, d: Tensor) -> tuple[Tensor, Named]:
        _, pulled = _vjp(lambda x, w: formula(record, x, w), x, w)
        found: tuple[Tensor, Named] = pulled(d)
        return found

    for k in range(t.clients):
        x, w, rx, rw = _point(record, t, k)
        _, (rdx, rdw) = _jvp(gradients, (x, w, dy[k]), (rx, rw, rdy[k]))
        if dx is not None:
            dx[k] = rdx
        for name, sink in sinks.items():
            if sink is not None:  # a tied weight adds to what its other layer left
                sink.out[k] = rdw[name] + sink.out[k] if sink.beta else rdw[name]


FORMULA = Rule(_forward, _backward)
