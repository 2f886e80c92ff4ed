"""What the arguments of the operations on images have in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ._scalars import brief, integer, is_integer
from .declaration import Argument

Ints = int | Sequence[int]
Pair = tuple[int, int]
MAX_ELEMENTS = 2**31 - 1  # of an image with its margins: offsets inside it are int32


def pair(name: str, value: Ints, least: int) -> Pair:
    """A number or two as (vertical, horizontal), each at least `least`."""
    both = value if isinstance(value, Sequence) else (value, value)
    if len(both) == 2 and all(is_integer(v) and least <= v <= MAX_ELEMENTS for v in both):
        return int(both[0]), int(both[1])
    raise ValueError(
        f"{name}: expected an int or a pair of ints >= {least} and below 2**31; got {brief(value)}"
    )


at_least_0, at_least_1 = partial(pair, least=0), partial(pair, least=1)
# How a window moves: public arguments of the convolutions, of which `Geometry` is made.
WINDOW = (
    Argument("stride", check=at_least_1, passed=False),
    Argument("padding", check=at_least_0, passed=False),
    Argument("dilation", check=at_least_1, passed=False),
    Argument("groups", check=partial(integer, least=1), passed=False),
)


def divides(name: str, value: int, what: str, size: int) -> None:
    """Raise ValueError unless `value` divides the `size` of `what`."""
    if size % value:
        raise ValueError(f"{name}: expected a divisor of the {size} {what}; got {value}")


def reach(name: str, size: Pair, taps: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """How many places a window of `taps` has in an image of `size`, along each side."""
    spare = [
        s + 2 * p - d * (t - 1) - 1
        for s, t, p, d in zip(size, taps, padding, dilation, strict=True)
    ]
    if min(taps) < 1 or min(spare) < 0:
        raise ValueError(
            f"{name}: expected a window that fits the image with its padding; got window "
            f"{list(taps)}, dilation {list(dilation)}, image {list(size)}, padding {list(padding)}"
        )
    return spare[0] // stride[0] + 1, spare[1] // stride[1] + 1


def counts(name: str, count: Tensor | None, x: Tensor) -> Tensor:
    """How many of each client's samples count, `[K]` int32; all if None."""
    clients, batch = x.shape[:2]
    if count is None:
        return torch.full((clients,), batch, dtype=torch.int32, device=x.device)
    if not isinstance(count, Tensor) or count.dtype.is_floating_point:
        raise TypeError(f"{name}: expected an integer tensor; got {brief(count)}")
    if count.shape != (clients,):
        raise ValueError(f"{name}: expected shape [{clients}]; got {list(count.shape)}")
    if count.device.type == "cpu" and clients and (count.min() < 0 or count.max() > batch):
        raise ValueError(f"{name}: expected 0 to {batch} samples; got {count.tolist()}")
    return count.to(x.device, torch.int32).contiguous()
