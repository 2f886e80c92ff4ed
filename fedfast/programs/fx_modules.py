"""From a module that is called to its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from .elementwise import Activation
from .fx_functions import make_dropout, make_log_softmax, make_pool, make_reshape
from .fx_nodes import Numbers, Unsupported, affine, pair, place, size_of, trained
from .normalization import BatchNorm, GroupNorm, LayerNorm
from .pooling import AdaptivePool
from .products import Conv, Linear
from .records import Record, Reshape
from .sequences import Embedding, Layer, Lstm

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Tanh: "tanh",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
}


def _linear(module: nn.Linear, node: fx.Node, numbers: Numbers) -> Record:
    if len(size_of(node)) != 2:
        raise Unsupported("Linear over more than [batch, features]")
    weight, bias = affine(module, node)
    if weight is None:
        raise Unsupported("its weight is not a parameter of its own")
    return Linear(*place(node, numbers), str(weight), bias, None)


def _conv(module: nn.Conv2d, node: fx.Node, numbers: Numbers) -> Record:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise Unsupported("Conv2d with padding other than a number of zeros")
    weight, bias = affine(module, node)
    if weight is None:
        raise Unsupported("its weight is not a parameter of its own")
    return Conv(
        *place(node, numbers),
        str(weight),
        bias,
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
    if not module.training:
        raise Unsupported("batch normalisation by running statistics")
    running = None
    if module.track_running_stats:
        running = f"{node.target}.running_mean", f"{node.target}.running_var"
    names, momentum = affine(module, node), float(module.momentum or 0.0)
    return BatchNorm(*place(node, numbers), *names, module.eps, running, momentum)


def _adaptive_pool(module: nn.AdaptiveAvgPool2d, node: fx.Node, numbers: Numbers) -> Record:
    height, width = size_of(node)[2:]
    return AdaptivePool(*place(node, numbers), (height, width))


def _gelu(module: nn.GELU, node: fx.Node, numbers: Numbers) -> Record:
    if module.approximate != "none":
        raise Unsupported("GELU by its tanh approximation")
    return Activation(*place(node, numbers), kind="gelu")


def _leaky_relu(module: nn.LeakyReLU, node: fx.Node, numbers: Numbers) -> Record:
    return Activation(*place(node, numbers), kind="leaky_relu", slope=module.negative_slope)


def _max_pool(module: nn.MaxPool2d, node: fx.Node, numbers: Numbers) -> Record:
    if pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
        raise Unsupported("MaxPool2d with dilation, ceil_mode or return_indices")
    return make_pool(node, numbers, "max", module.kernel_size, module.stride, module.padding)


def _avg_pool(module: nn.AvgPool2d, node: fx.Node, numbers: Numbers) -> Record:
    if module.ceil_mode or module.divisor_override is not None:
        raise Unsupported("AvgPool2d with ceil_mode or divisor_override")
    window = module.kernel_size, module.stride, module.padding
    return make_pool(node, numbers, "avg", *window, module.count_include_pad)


def _flatten(module: nn.Flatten, node: fx.Node, numbers: Numbers) -> Record:
    return make_reshape(node, numbers)


def _same(module: nn.Module, node: fx.Node, numbers: Numbers) -> Record:
    return Reshape(*place(node, numbers))


def _dropout(module: nn.Dropout | nn.Dropout2d, node: fx.Node, numbers: Numbers) -> Record:
    p = module.p if module.training else 0.0
    return make_dropout(node, numbers, p, planes=isinstance(module, nn.Dropout2d))


def _log_softmax(module: nn.LogSoftmax, node: fx.Node, numbers: Numbers) -> Record:
    return make_log_softmax(node, numbers, module.dim)


def _embedding(module: nn.Embedding, node: fx.Node, numbers: Numbers) -> Record:
    if module.max_norm is not None or module.scale_grad_by_freq or module.sparse:
        raise Unsupported("Embedding with max_norm, scale_grad_by_freq or sparse")
    (weight,) = trained(module, node, ("weight",))
    if weight is None:
        raise Unsupported("its weight is not a parameter of its own")
    return Embedding(*place(node, numbers), str(weight), module.padding_idx)


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
    names = trained(module, node, [f"{part}_l{n}" for part in Layer._fields])
    return Layer(str(names[0]), str(names[1]), names[2], names[3])


MODULES: dict[type[nn.Module], Callable[[Any, fx.Node, Numbers], Record]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.Flatten: _flatten,
    nn.Identity: _same,
    nn.Dropout: _dropout,
    nn.Dropout2d: _dropout,
    nn.LogSoftmax: _log_softmax,
    nn.Embedding: _embedding,
    nn.LSTM: _lstm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.GELU: _gelu,
    nn.LeakyReLU: _leaky_relu,
}
