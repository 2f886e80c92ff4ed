"""Which layers a program knows: from an fx node to its record, or the reason why there is none."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from . import norms as n
from . import records as r


class Unsupported(Exception):
    """Why a layer cannot be part of a program."""


Numbers = Mapping[fx.Node, int]

ACTIVATIONS: dict[Any, str] = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    F.relu: "relu",
    torch.relu: "relu",
    torch.tanh: "tanh",
    F.tanh: "tanh",
    F.silu: "silu",
    torch.sigmoid: "sigmoid",
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}
FLATTENS = (nn.Flatten, torch.flatten, "flatten", "view", "reshape")
ADDS = (operator.add, operator.iadd, torch.add, "add")


def record_of(graph: fx.GraphModule, node: fx.Node, numbers: Numbers) -> r.Record:
    """The record of one node; raises Unsupported with the reason."""
    if node.op == "get_attr":
        raise Unsupported("it reads a tensor of the module directly")
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        return _of_module(module, node, numbers)
    return _of_call(node.target, node, numbers)


def _of_module(module: nn.Module, node: fx.Node, numbers: Numbers) -> r.Record:
    maker = _MODULES.get(type(module))
    if maker is not None:
        return maker(module, node, numbers)
    if type(module) in ACTIVATIONS:
        return r.Activation(*_place(node, numbers), kind=ACTIVATIONS[type(module)])
    raise Unsupported(f"{type(module).__name__} has no layer record")


def _of_call(target: Any, node: fx.Node, numbers: Numbers) -> r.Record:
    if target in ACTIVATIONS:
        return r.Activation(*_place(node, numbers), kind=ACTIVATIONS[target])
    if target in FLATTENS:
        return _reshape(node, numbers)
    if target in ADDS:
        return _add(node, numbers)
    if target in _CALLS:
        return _CALLS[target](node, numbers)
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    raise Unsupported(f"{name} has no layer record")


def _place(node: fx.Node, numbers: Numbers) -> tuple[str, tuple[int, ...], int]:
    """(name, inputs, output) of a layer with one input."""
    source = node.args[0] if node.args else node.kwargs.get("input")
    if not isinstance(source, fx.Node):
        raise Unsupported("its input is not a value of the network")
    return node.name, (numbers[source],), numbers[node]


def _size(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape)


def _linear(module: nn.Linear, node: fx.Node, numbers: Numbers) -> r.Record:
    name, inputs, output = _place(node, numbers)
    if len(_size(node)) != 2:
        raise Unsupported("Linear over more than [batch, features]")
    return r.Linear(name, inputs, output, *_names(module, node), None)


def _conv(module: nn.Conv2d, node: fx.Node, numbers: Numbers) -> r.Record:
    name, inputs, output = _place(node, numbers)
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise Unsupported("Conv2d with padding other than a number of zeros")
    return r.Conv(
        name,
        inputs,
        output,
        *_names(module, node),
        None,
        _pair(module.stride),
        _pair(module.padding),
        _pair(module.dilation),
        module.groups,
    )


def _names(module: nn.Module, node: fx.Node) -> tuple[str, str | None]:
    weight, bias = _affine(module, node)
    return str(weight), bias


def _affine(module: nn.Module, node: fx.Node) -> tuple[str | None, str | None]:
    """Names of weight and bias, None for what the layer does not have."""
    own = dict(module.named_parameters())
    for name, p in own.items():
        if not p.requires_grad:
            raise Unsupported(f"its {name} is frozen")
    weight, bias = (f"{node.target}.{n}" if n in own else None for n in ("weight", "bias"))
    return weight, bias


def _group_norm(module: nn.GroupNorm, node: fx.Node, numbers: Numbers) -> r.Record:
    affine = _affine(module, node)
    return n.GroupNorm(*_place(node, numbers), *affine, module.eps, module.num_groups)


def _layer_norm(module: nn.LayerNorm, node: fx.Node, numbers: Numbers) -> r.Record:
    affine, shape = _affine(module, node), tuple(module.normalized_shape)
    return n.LayerNorm(*_place(node, numbers), *affine, module.eps, shape)


def _batch_norm(
    module: nn.BatchNorm1d | nn.BatchNorm2d, node: fx.Node, numbers: Numbers
) -> r.Record:
    running = None
    if module.track_running_stats:
        running = f"{node.target}.running_mean", f"{node.target}.running_var"
    affine, momentum = _affine(module, node), float(module.momentum or 0.0)
    return n.BatchNorm(*_place(node, numbers), *affine, module.eps, running, momentum)


def _adaptive_pool(module: nn.AdaptiveAvgPool2d, node: fx.Node, numbers: Numbers) -> r.Record:
    height, width = _size(node)[2:]
    return n.AdaptivePool(*_place(node, numbers), (height, width))


def _gelu(module: nn.GELU, node: fx.Node, numbers: Numbers) -> r.Record:
    if module.approximate != "none":
        raise Unsupported("GELU by its tanh approximation")
    return r.Activation(*_place(node, numbers), kind="gelu")


def _leaky_relu(module: nn.LeakyReLU, node: fx.Node, numbers: Numbers) -> r.Record:
    slope = module.negative_slope
    return r.Activation(*_place(node, numbers), kind="leaky_relu", slope=slope)


def _max_pool(module: nn.MaxPool2d, node: fx.Node, numbers: Numbers) -> r.Record:
    if _pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
        raise Unsupported("MaxPool2d with dilation, ceil_mode or return_indices")
    return _pool(node, numbers, "max", module.kernel_size, module.stride, module.padding)


def _avg_pool(module: nn.AvgPool2d, node: fx.Node, numbers: Numbers) -> r.Record:
    if module.ceil_mode or module.divisor_override is not None:
        raise Unsupported("AvgPool2d with ceil_mode or divisor_override")
    include = module.count_include_pad
    return _pool(node, numbers, "avg", module.kernel_size, module.stride, module.padding, include)


def _max_pool_call(node: fx.Node, numbers: Numbers) -> r.Record:
    given = dict(zip(("kernel_size", "stride", "padding"), node.args[1:], strict=False))
    given |= {k: v for k, v in node.kwargs.items() if k != "input"}
    if len(node.args) > 4 or given.pop("dilation", 1) != 1 or given.pop("ceil_mode", False):
        raise Unsupported("max_pool2d with dilation or ceil_mode")
    given.pop("return_indices", None)
    return _pool(
        node, numbers, "max", given["kernel_size"], given.get("stride"), given.get("padding", 0)
    )


def _pool(
    node: fx.Node,
    numbers: Numbers,
    kind: str,
    kernel: Any,
    stride: Any,
    padding: Any,
    include: bool = True,
) -> r.Record:
    kernel = _pair(kernel)
    return r.Pool(
        *_place(node, numbers), kind, kernel, _pair(stride or kernel), _pair(padding), include
    )


def _flatten_module(module: nn.Flatten, node: fx.Node, numbers: Numbers) -> r.Record:
    return _reshape(node, numbers)


def _reshape(node: fx.Node, numbers: Numbers) -> r.Record:
    source, target = _size(node.args[0]), _size(node)  # type: ignore[arg-type]
    if source[0] != target[0]:
        raise Unsupported("a reshape that mixes samples")
    return r.Reshape(*_place(node, numbers))


def _same(module: nn.Module, node: fx.Node, numbers: Numbers) -> r.Record:
    return r.Reshape(*_place(node, numbers))


def _add(node: fx.Node, numbers: Numbers) -> r.Record:
    left, right = node.args[:2]
    if not (isinstance(left, fx.Node) and isinstance(right, fx.Node)):
        raise Unsupported("an addition of something that is not a value of the network")
    if _size(left) != _size(right) or node.kwargs.get("alpha", 1) != 1:
        raise Unsupported("an addition that broadcasts or scales")
    return r.Add(node.name, (numbers[left], numbers[right]), numbers[node])


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


Maker = Callable[[Any, fx.Node, Numbers], r.Record]
_MODULES: dict[type[nn.Module], Maker] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.Flatten: _flatten_module,
    nn.Identity: _same,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.GELU: _gelu,
    nn.LeakyReLU: _leaky_relu,
}
_CALLS: dict[Any, Callable[[fx.Node, Numbers], r.Record]] = {
    F.max_pool2d: _max_pool_call,
    torch.max_pool2d: _max_pool_call,
}
