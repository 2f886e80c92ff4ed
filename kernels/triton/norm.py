"""What the Triton kernels that normalise share: strides, block sizes, addresses, affine parts."""

from __future__ import annotations

from torch import Tensor

from .common import jit, tl
from .tiles import fold

BLOCK, WARPS = 1024, 4


def strides(*tensors: Tensor | None) -> tuple[int, ...]:
    """Over K, 0 for None."""
    return tuple(0 if t is None else t.stride(0) for t in tensors)


def block_for(size: int) -> int:
    """Elements a program takes at once: the power of two that covers `size`, up to `BLOCK`."""
    return min(BLOCK, 1 << max(size - 1, 0).bit_length())


@jit
def place_of(e: tl.tensor, channel: tl.tensor, channels: tl.tensor, size: tl.tensor) -> tl.tensor:
    """Where number e of a channel lies in a client's `[B, C, size]`."""
    return (e // size).to(tl.int64) * (channels * size) + channel * size + e % size


@jit
def scaled(
    value: tl.tensor, weight: tl.tensor, bias: tl.tensor, at: tl.tensor, mask: tl.tensor
) -> tl.tensor:
    """`value w + b`; weight, bias: pointers or None."""
    if weight is not None:
        value = value * tl.load(weight + at, mask, other=0.0)
    if bias is not None:
        value = value + tl.load(bias + at, mask, other=0.0)
    return value


@jit
def folded(
    to: tl.tensor,
    to_stride: tl.tensor,
    base: tl.tensor,
    base_stride: tl.tensor,
    at: tl.tensor,
    alpha: tl.tensor,
    beta: tl.tensor,
    k: tl.tensor,
    gradient: tl.tensor,
    mask: tl.tensor,
) -> None:
    """`to = beta base + alpha gradient` of client k; to: a pointer or None."""
    if to is not None:
        here = base + k * base_stride + at
        value = gradient.to(to.dtype.element_ty)
        own = fold(value, here, mask, tl.load(alpha + k), tl.load(beta + k))
        tl.store(to + k * to_stride + at, own, mask)
