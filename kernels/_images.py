"""What the arguments of the operations on images have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._args import Coefficient, per_client
from ._blocks import block, written

Ints = int | Sequence[int]
Pair = tuple[int, int]
Sinks = tuple[Tensor | None, Tensor | None, Tensor, Tensor, Tensor | None, Tensor | None]
MAX_ELEMENTS = 2**31 - 1  # of an image with its margins: offsets inside it are int32


def pair(name: str, value: Ints, least: int) -> Pair:
    """A number or two as (vertical, horizontal), each at least `least`."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2 or not all(isinstance(v, int) and v >= least for v in both):
        raise ValueError(f"{name}: expected an int or a pair of ints >= {least}; got {value!r}")
    return both


def number(name: str, value: int, least: int) -> int:
    """An int, at least `least`."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: expected an int >= {least}; got {value!r}")
    return value


def divides(name: str, value: int, what: str, size: int) -> None:
    """Raise ValueError unless `value` divides the `size` of `what`."""
    if size % value:
        raise ValueError(f"{name}: expected a divisor of the {size} {what}; got {value}")


def reach(name: str, size: Pair, taps: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """How many places a window of `taps` has in an image of `size`, along each side."""
    room = [
        s + 2 * p - d * (t - 1) - 1
        for s, t, p, d in zip(size, taps, padding, dilation, strict=True)
    ]
    if min(taps) < 1 or min(room) < 0:
        raise ValueError(
            f"{name}: expected a window that fits the image with its padding; got window "
            f"{list(taps)}, dilation {list(dilation)}, image {list(size)}, padding {list(padding)}"
        )
    return room[0] // stride[0] + 1, room[1] // stride[1] + 1


def sinks(
    x: Tensor,
    shape: Sequence[int],
    dweight: Tensor | None,
    dbias: Tensor | None,
    bias_shape: Sequence[int],
    scales: tuple[Coefficient, Coefficient],
    bases: tuple[Tensor | None, Tensor | None],
) -> Sinks:
    """dweight, dbias, alpha, beta, base_weight, base_bias, checked; a base defaults to its sink."""
    alpha, beta = per_client("alpha", scales[0], x), per_client("beta", scales[1], x)
    weights = _sink("weight", dweight, bases[0], shape, x)
    biases = _sink("bias", dbias, bases[1], bias_shape, x)
    return weights[0], biases[0], alpha, beta, weights[1], biases[1]


def _sink(
    name: str, to: Tensor | None, base: Tensor | None, shape: Sequence[int], x: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    if to is None:
        return None, None
    to = written(f"d{name}", to, shape, x)
    return to, to if base is None else block(f"base_{name}", base, shape, x)


def counts(count: Tensor | None, x: Tensor) -> Tensor:
    """How many of each client's samples count, `[K]` int32; all if None."""
    clients, batch = x.shape[:2]
    if count is None:
        return torch.full((clients,), batch, dtype=torch.int32, device=x.device)
    if not isinstance(count, Tensor) or count.dtype.is_floating_point:
        raise TypeError(f"count: expected an integer tensor; got {count!r}")
    if count.shape != (clients,):
        raise ValueError(f"count: expected shape [{clients}]; got {list(count.shape)}")
    if count.device.type == "cpu" and clients and (count.min() < 0 or count.max() > batch):
        raise ValueError(f"count: expected 0 to {batch} samples; got {count.tolist()}")
    return count.to(x.device, torch.int32).contiguous()
