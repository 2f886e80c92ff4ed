"""Modules with parameters, or with states that a step changes, as records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from .fx_nodes import Numbers, Unsupported, affine, named, pair, place, size_of, weighted
from .normalization import BatchNorm, GroupNorm, LayerNorm
from .products import Conv, Linear
from .records import Record
from .sequences import Embedding, Layer, Lstm


def _linear(module: nn.Linear, node: fx.Node, numbers: Numbers) -> Record:
    if len(size_of(node)) != 2:
        raise Unsupported("Linear over more than [batch, features]")
    return Linear(*place(node, numbers), *weighted(module, node), None)


def _conv(module: nn.Conv2d, node: fx.Node, numbers: Numbers) -> Record:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise Unsupported("Conv2d with padding other than a number of zeros")
    return Conv(
        *place(node, numbers),
        *weighted(module, node),
        None,
        pair(module.stride),
        pair(module.padding),
        pair(module.dilation),
        module.groups,
    )


def _group_norm(module: nn.GroupNorm, node: fx.Node, numbers: Numbers) -> Record:
    names = affine(module, node)
    return GroupNorm(*place(node, numbers), *names, module.eps, module.num_groups)


def _layer_norm(module: nn.LayerNorm, node: fx.Node, numbers: Numbers) -> Record:
    names, shape = affine(module, node), tuple(module.normalized_shape)
    return LayerNorm(*place(node, numbers), *names, module.eps, shape)


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, node: fx.Node, numbers: Numbers) -> Record:
    if not module.training and not module.track_running_stats:
        raise Unsupported("batch normalisation by the statistics of what is evaluated together")
    running = None
    if module.track_running_stats:
        running = f"{node.target}.running_mean", f"{node.target}.running_var"
    names, momentum = affine(module, node), float(module.momentum or 0.0)
    return BatchNorm(*place(node, numbers), *names, module.eps, running, momentum, module.training)


def _embedding(module: nn.Embedding, node: fx.Node, numbers: Numbers) -> Record:
    if module.max_norm is not None or module.scale_grad_by_freq or module.sparse:
        raise Unsupported("Embedding with max_norm, scale_grad_by_freq or sparse")
    weight, _ = weighted(module, node)
    return Embedding(*place(node, numbers), weight, module.padding_idx)


def _lstm(module: nn.LSTM, node: fx.Node, numbers: Numbers) -> Record:
    if len(node.args) + len(node.kwargs) > 1:
        raise Unsupported("LSTM from a state of its own")
    if not module.batch_first or module.bidirectional or module.proj_size:
        raise Unsupported("LSTM without batch_first, bidirectional or with proj_size")
    if module.dropout and module.num_layers > 1:
        raise Unsupported("LSTM with dropout between its layers")
    layers = tuple(_lstm_layer(module, node, n) for n in range(module.num_layers))
    return Lstm(*place(node, numbers), layers, module.hidden_size)


def _lstm_layer(module: nn.LSTM, node: fx.Node, n: int) -> Layer:
    names = named(module, node, [f"{part}_l{n}" for part in Layer._fields])
    return Layer(str(names[0]), str(names[1]), names[2], names[3])


MODULES: dict[type[nn.Module], Callable[[Any, fx.Node, Numbers], Record]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.Embedding: _embedding,
    nn.LSTM: _lstm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
}
