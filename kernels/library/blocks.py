"""Blocks of clients: as many in each whatever K is, at addresses that are multiples of 16 bytes.

Libraries choose by alignment too: an operand whose clients lie elsewhere is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ..geometry import Geometry
from .candidates import Candidate

ALIGNED = 16  # bytes
ROW = 64  # elements, as rows of models


def blocks(clients: int, size: int) -> list[slice]:
    """Which clients each block holds; the last may hold fewer."""
    return [slice(at, min(at + size, clients)) for at in range(0, clients, size)]


def rows(like: Tensor, size: int, shape: Sequence[int]) -> Tensor:
    """`[size, *shape]`, not written yet, every client's part aligned."""
    length = prod(shape)
    return like.new_empty(size, -(-length // ROW) * ROW)[:, :length].view(size, *shape)


def filled(t: Tensor, size: int) -> Tensor:
    """`[size, ...]`: t `[n, ...]` as it is if n = size and it is aligned, else a copy; then 0."""
    if len(t) == size and _aligned(t):
        return t
    made = rows(t, size, t.shape[1:])
    made[: len(t)].copy_(t)
    made[len(t) :].zero_()
    return made


def _aligned(t: Tensor) -> bool:
    apart = t.stride(0) * t.element_size()
    return t.data_ptr() % ALIGNED == 0 and (len(t) == 1 or (apart > 0 and apart % ALIGNED == 0))


def side_by_side(t: Tensor, dim: int, how: Candidate, read: bool = True) -> Tensor:
    """t `[n, ...]` without its first dimension: a block's clients one behind the other along `dim`.

    read  whether its numbers are read; if not, the shape is all that counts
    """
    if how.clients == 1 and not how.last:
        return filled(t, 1)[0]
    shape = list(t.shape[1:])
    shape[dim] *= how.clients
    order = torch.channels_last if how.last else torch.contiguous_format
    made = torch.empty(shape, dtype=t.dtype, device=t.device, memory_format=order)
    if read:
        each = apart(made, dim, how.clients)
        each[: len(t)].copy_(t)
        each[len(t) :].zero_()
    return made


def apart(t: Tensor, dim: int, clients: int) -> Tensor:
    """What `side_by_side` has joined, as `[clients, ...]` again."""
    return t.unflatten(dim, (clients, -1)).movedim(dim, 0)


def windows(x: Tensor, weight: Tensor, places: Sequence[int], g: Geometry) -> Tensor:
    """The elements under every window, `[K groups, C / groups kh kw, B P Q]`, of x as in `conv`."""
    (down, across), (height, width) = g.padding, weight.shape[3:]
    wide = torch.nn.functional.pad(x, (across, across, down, down))
    k, image, channel, row, column = wide.stride()
    tap = g.dilation[0] * row, g.dilation[1] * column
    move = g.stride[0] * row, g.stride[1] * column
    sizes = len(x), x.shape[2], height, width, x.shape[1], *places
    found = wide.as_strided(sizes, (k, channel, *tap, image, *move))
    depth = weight.shape[2] * height * width
    return found.reshape(len(x) * g.groups, depth, x.shape[1] * prod(places))
