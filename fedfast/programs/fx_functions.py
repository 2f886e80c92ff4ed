"""From a function or method that is called to its record."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import fx

from .elementwise import Activation, Add, Dropout, LogSoftmax
from .fx_nodes import (
    Numbers,
    Size,
    Unsupported,
    given,
    lstm_of,
    pair,
    picks,
    place,
    size_of,
    source,
)
from .pooling import AdaptivePool, Pool
from .records import Record, Reshape
from .sequences import Step

# F.sigmoid and F.tanh call the methods of their names.
ACTIVATIONS: dict[object, str] = {
    F.relu: "relu",
    torch.relu: "relu",
    torch.tanh: "tanh",
    F.relu6: "relu6",
    F.silu: "silu",
    torch.sigmoid: "sigmoid",
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}


def make_pool(
    node: fx.Node,
    numbers: Numbers,
    kind: str,
    kernel: Size,
    stride: Size | None,
    padding: Size,
    include: bool = True,
) -> Record:
    """A pooling layer; without a stride, windows touch."""
    window = pair(kernel), pair(stride or kernel), pair(padding)
    return Pool(*place(node, numbers), kind, *window, include)


def make_reshape(node: fx.Node, numbers: Numbers) -> Record:
    """Flatten, view or reshape, sample by sample."""
    at = place(node, numbers)
    if size_of(source(node))[:1] != size_of(node)[:1]:
        raise Unsupported("a reshape that mixes samples")
    return Reshape(*at)


def make_dropout(node: fx.Node, numbers: Numbers, p: float, planes: bool) -> Record:
    """Dropout of elements, or of the whole planes of an image."""
    at, sizes = place(node, numbers), size_of(node)
    if planes and len(sizes) != 4:
        raise Unsupported("dropout of planes of something that is not [batch, C, H, W]")
    span = sizes[2] * sizes[3] if planes else 1
    return Dropout(*at, float(p), span) if p else Reshape(*at)


def make_log_softmax(node: fx.Node, numbers: Numbers, dim: int | None) -> Record:
    """Log-softmax over the last dimension of `[batch, classes]`."""
    if len(size_of(node)) != 2 or dim not in (None, 1, -1):
        raise Unsupported("log_softmax over something other than [batch, classes]'s classes")
    return LogSoftmax(*place(node, numbers))


def _max_pool(node: fx.Node, numbers: Numbers) -> Record:
    names = "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"
    args = given(node, *names)
    if pair(args.get("dilation", 1)) != (1, 1) or args.get("ceil_mode"):
        raise Unsupported("max_pool2d with dilation or ceil_mode")
    window = args["kernel_size"], args.get("stride"), args.get("padding", 0)
    return make_pool(node, numbers, "max", *window)


def _avg_pool(node: fx.Node, numbers: Numbers) -> Record:
    names = "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
    args = given(node, *names)
    if args.get("ceil_mode") or args.get("divisor_override") is not None:
        raise Unsupported("avg_pool2d with ceil_mode or divisor_override")
    window = args["kernel_size"], args.get("stride"), args.get("padding", 0)
    return make_pool(node, numbers, "avg", *window, args.get("count_include_pad", True))


def _adaptive_pool(node: fx.Node, numbers: Numbers) -> Record:
    height, width = size_of(node)[2:]
    return AdaptivePool(*place(node, numbers), (height, width))


def _dropout(node: fx.Node, numbers: Numbers) -> Record:
    args = given(node, "p", "training", "inplace")
    p = args.get("p", 0.5) if args.get("training", True) else 0.0
    return make_dropout(node, numbers, p, planes=node.target is F.dropout2d)


def _log_softmax(node: fx.Node, numbers: Numbers) -> Record:
    args = given(node, "dim", "_stacklevel", "dtype")
    if args.get("dtype") is not None:
        raise Unsupported("log_softmax in another dtype")
    return make_log_softmax(node, numbers, args.get("dim"))


def _item(node: fx.Node, numbers: Numbers) -> Record:
    """An LSTM's output, its last layer's last state, or one step of a sequence."""
    source, index = node.args
    lstm = lstm_of(source)
    if lstm is not None:
        if index not in (-1, size_of(source)[0] - 1):
            raise Unsupported("it reads the state of a layer below an LSTM's last")
        return Step(node.name, (numbers[lstm],), numbers[node], -1)
    if picks(node, 0):
        return Reshape(*place(node, numbers))
    if picks(node, 1):
        raise Unsupported("it reads an LSTM's cells")
    return Step(*place(node, numbers), _step(index, size_of(source)))


def _step(index: object, sizes: tuple[int, ...]) -> int:
    parts = index if isinstance(index, tuple) else (index,)
    others = [*parts[:1], *parts[2:]]
    if len(parts) > 1 and len(sizes) == 3 and all(part == slice(None) for part in others):
        if isinstance(parts[1], int):
            return parts[1]
    raise Unsupported("an index other than [:, step] of a sequence [batch, steps, features]")


def _mean(node: fx.Node, numbers: Numbers) -> Record:
    """The mean of each channel's plane; its value keeps or drops the two sides."""
    args, at = given(node, "dim", "keepdim"), place(node, numbers)
    dims, sizes = args.get("dim", ()), size_of(source(node))
    dims = (dims,) if isinstance(dims, int) else dims
    if len(sizes) != 4 or {d % 4 for d in dims} != {2, 3}:
        raise Unsupported("a mean over other dimensions than height and width")
    return AdaptivePool(*at, (1, 1))


def _gelu(node: fx.Node, numbers: Numbers) -> Record:
    if given(node, "approximate").get("approximate", "none") != "none":
        raise Unsupported("gelu by its tanh approximation")
    return Activation(*place(node, numbers), kind="gelu")


def _leaky_relu(node: fx.Node, numbers: Numbers) -> Record:
    slope = given(node, "negative_slope", "inplace").get("negative_slope", 0.01)
    return Activation(*place(node, numbers), kind="leaky_relu", slope=slope)


def _add(node: fx.Node, numbers: Numbers) -> Record:
    left, right = node.args[:2] if len(node.args) > 1 else (None, None)
    if left not in numbers or right not in numbers:
        raise Unsupported("an addition of something that is not a value of the network")
    if size_of(left) != size_of(right) or node.kwargs.get("alpha", 1) != 1:
        raise Unsupported("an addition that broadcasts or scales")
    return Add(node.name, (numbers[left], numbers[right]), numbers[node])  # type: ignore[index]


CALLS: dict[object, Callable[[fx.Node, Numbers], Record]] = {
    F.max_pool2d: _max_pool,
    torch.max_pool2d: _max_pool,
    F.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool2d: _adaptive_pool,
    torch.mean: _mean,
    "mean": _mean,
    F.gelu: _gelu,
    F.leaky_relu: _leaky_relu,
    torch.flatten: make_reshape,
    "flatten": make_reshape,
    "view": make_reshape,
    "reshape": make_reshape,
    F.dropout: _dropout,
    F.dropout2d: _dropout,
    F.log_softmax: _log_softmax,
    torch.log_softmax: _log_softmax,
    "log_softmax": _log_softmax,
    operator.getitem: _item,
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    "add": _add,
}
