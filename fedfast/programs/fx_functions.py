"""Layers without parameters: what a function, a method or a module of torch's is as a record.

A maker's parameters behind `numbers` are the options of the function behind its input: of their
names, in their order, with their defaults. A module has them as attributes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import fx, nn

from .elementwise import Activation, Add, Dropout, LogSoftmax, Scale
from .fx_nodes import Numbers, Size, Unsupported, lstm_of, pair, picks, place, size_of, source
from .pooling import AdaptivePool, Pool
from .records import Record, Reshape
from .sequences import Step

# F.sigmoid and F.tanh call the methods of their names.
ACTIVATIONS: dict[object, str] = {
    **dict.fromkeys((F.relu, torch.relu, "relu", nn.ReLU), "relu"),
    **dict.fromkeys((torch.tanh, "tanh", nn.Tanh), "tanh"),
    **dict.fromkeys((torch.sigmoid, "sigmoid", nn.Sigmoid), "sigmoid"),
    **dict.fromkeys((F.relu6, nn.ReLU6), "relu6"),
    **dict.fromkeys((F.silu, nn.SiLU), "silu"),
}


def _reshape(node: fx.Node, numbers: Numbers) -> Record:
    """Flatten, view or reshape, sample by sample."""
    at = place(node, numbers)
    if size_of(source(node))[:1] != size_of(node)[:1]:
        raise Unsupported("a reshape that mixes samples")
    return Reshape(*at)


def _max_pool(
    node: fx.Node,
    numbers: Numbers,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Record:
    if pair(dilation) != (1, 1) or ceil_mode or return_indices:
        raise Unsupported("max pooling with dilation, ceil_mode or return_indices")
    window = pair(kernel_size), pair(stride or kernel_size), pair(padding)
    return Pool(*place(node, numbers), "max", *window, True)


def _avg_pool(
    node: fx.Node,
    numbers: Numbers,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Record:
    if ceil_mode or divisor_override is not None:
        raise Unsupported("average pooling with ceil_mode or divisor_override")
    window = pair(kernel_size), pair(stride or kernel_size), pair(padding)
    return Pool(*place(node, numbers), "avg", *window, count_include_pad)


def _adaptive_pool(node: fx.Node, numbers: Numbers) -> Record:
    height, width = size_of(node)[2:]
    return AdaptivePool(*place(node, numbers), (height, width))


def _dropout(
    node: fx.Node, numbers: Numbers, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Record:
    at = place(node, numbers)
    return Dropout(*at, float(p)) if p and training else Reshape(*at)


def _dropout_planes(
    node: fx.Node, numbers: Numbers, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Record:
    """Of the whole planes of an image."""
    at, sizes = place(node, numbers), size_of(node)
    if len(sizes) != 4:
        raise Unsupported("dropout of planes of something that is not [batch, C, H, W]")
    return Dropout(*at, float(p), sizes[2] * sizes[3]) if p and training else Reshape(*at)


def _log_softmax(
    node: fx.Node,
    numbers: Numbers,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: torch.dtype | None = None,
) -> Record:
    """Over the last dimension of `[batch, classes]`."""
    if dtype is not None:
        raise Unsupported("log_softmax in another dtype")
    if len(size_of(node)) != 2 or dim not in (None, 1, -1):
        raise Unsupported("log_softmax over something other than [batch, classes]'s classes")
    return LogSoftmax(*place(node, numbers))


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


def _mean(
    node: fx.Node, numbers: Numbers, dim: int | Sequence[int] = (), keepdim: bool = False
) -> Record:
    """The mean of each channel's plane; its value keeps or drops the two sides."""
    dims = (dim,) if isinstance(dim, int) else dim
    at = place(node, numbers)
    if len(size_of(source(node))) != 4 or {d % 4 for d in dims} != {2, 3}:
        raise Unsupported("a mean over other dimensions than height and width")
    return AdaptivePool(*at, (1, 1))


def _gelu(node: fx.Node, numbers: Numbers, approximate: str = "none") -> Record:
    if approximate != "none":
        raise Unsupported("gelu by its tanh approximation")
    return Activation(*place(node, numbers), kind="gelu")


def _leaky_relu(
    node: fx.Node, numbers: Numbers, negative_slope: float = 0.01, inplace: bool = False
) -> Record:
    return Activation(*place(node, numbers), kind="leaky_relu", slope=negative_slope)


def _add(node: fx.Node, numbers: Numbers) -> Record:
    left, right = node.args[:2] if len(node.args) > 1 else (None, None)
    if left not in numbers or right not in numbers:
        raise Unsupported("an addition of something that is not a value of the network")
    if size_of(left) != size_of(right) or node.kwargs.get("alpha", 1) != 1:
        raise Unsupported("an addition that broadcasts or scales")
    return Add(node.name, (numbers[left], numbers[right]), numbers[node])  # type: ignore[index]


def _scale(node: fx.Node, numbers: Numbers) -> Record:
    values = [v for v in node.args if isinstance(v, fx.Node) and v in numbers]
    factors = [value for value in node.args if isinstance(value, (int, float))]
    if len(values) != 1 or len(factors) != 1 or node.kwargs:
        raise Unsupported("a product of something other than a value and a number")
    return Scale(node.name, (numbers[values[0]],), numbers[node], float(factors[0]))


RESHAPES = torch.flatten, "flatten", "view", "reshape", nn.Flatten, nn.Identity
LAYERS: dict[object, Callable[..., Record]] = {
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d, nn.MaxPool2d), _max_pool),
    **dict.fromkeys((F.avg_pool2d, nn.AvgPool2d), _avg_pool),
    **dict.fromkeys((F.adaptive_avg_pool2d, nn.AdaptiveAvgPool2d), _adaptive_pool),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((F.gelu, nn.GELU), _gelu),
    **dict.fromkeys((F.leaky_relu, nn.LeakyReLU), _leaky_relu),
    **dict.fromkeys(RESHAPES, _reshape),
    **dict.fromkeys((F.dropout, nn.Dropout), _dropout),
    **dict.fromkeys((F.dropout2d, nn.Dropout2d), _dropout_planes),
    **dict.fromkeys((F.log_softmax, torch.log_softmax, "log_softmax", nn.LogSoftmax), _log_softmax),
    operator.getitem: _item,
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add"), _add),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul"), _scale),
}
