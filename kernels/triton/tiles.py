"""Tiles of matrices inside Triton kernels: loads, products of chosen precision, folding."""

from __future__ import annotations

import torch
from torch import Tensor

from .common import INTERPRETED, jit, tl

# `tl.dot`'s names of `PRECISIONS`, and what `dot` does of its own. The interpreter multiplies no
# bfloat16: rounded operands as float32 have the same products, exact in both.
DOT = {"fp32": "ieee", "tf32x3": "tf32x3", "tf32": "tf32"}
DOT |= {"bf16": "rounded" if INTERPRETED else "bf16"}


def dot_precision(precision: str, like: Tensor, warps: int = 4) -> str:
    """`PRECISION` for `dot` in programs of so many warps: float64 has only its own.

    Of products in a chain Triton gives each warp rows of its own: of eight warps four would compute
    the 64 rows of a tile a second time. Apart, they have as many sums more in registers.
    """
    if like.dtype != torch.float32:
        return "ieee"
    return "tf32x3 apart" if precision == "tf32x3" and warps == 8 else DOT[precision]


def covering(size: int, sides: tuple[int, ...]) -> int:
    """The first of ascending sides of a tile that covers `size`, else the last."""
    return next((side for side in sides if size <= side), sides[-1])


def row_tile(rows: int, classes: int) -> tuple[int, int]:
    """(rows, columns) of a tile of logits: more than 512 would fill the registers."""
    columns = min(1 << (classes - 1).bit_length(), 512)
    return min(1 << max(rows - 1, 0).bit_length(), 512 // columns), columns


def unit(t: Tensor, length: int) -> int:
    """`UNIT` for `multiple`: elements of a 16-byte access if runs of `length` and clients allow."""
    width = 16 // t.element_size()
    return 1 if length % width or t.stride(0) % width else width


@jit
def rounded(x: tl.tensor) -> tl.tensor:
    """float32 x to the nearest bfloat16, of two the even one, as float32; a NaN stays one.

    For the interpreter, whose own conversion cuts off.
    """
    bits = x.to(tl.int32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
    return tl.where(x == x, bits.to(tl.float32, bitcast=True), x)


@jit
def tf32(x: tl.tensor, HALF: tl.constexpr) -> tl.tensor:
    """float32 x as TF32, 11 significant bits: cut off, or with HALF = 0x1000 the nearest one."""
    bits = x.to(tl.int32, bitcast=True)
    return ((bits + HALF) & -0x2000).to(tl.float32, bitcast=True)


@jit
def dot(a: tl.tensor, b: tl.tensor, acc: tl.tensor, PRECISION: tl.constexpr) -> tl.tensor:
    """`acc + a b` of tiles [M, R] and [R, N], in the accumulator's dtype."""
    # Triton 3.6 takes float64 only with its `out_dtype` named.
    if PRECISION == "bf16":
        acc = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), acc, out_dtype=acc.dtype)
    elif PRECISION == "rounded":
        acc = tl.dot(rounded(a), rounded(b), acc, input_precision="ieee", out_dtype=acc.dtype)
    elif PRECISION == "tf32x3" or PRECISION == "tf32x3 apart":
        # Infinite operands give NaNs, and so do NaNs, some of which `tf32` takes for numbers.
        high = tf32(a, 0x1000)
        low = a - high
        other = tf32(b, 0x1000)
        part = tl.dot(low, other, input_precision="tf32", out_dtype=acc.dtype)
        if PRECISION == "tf32x3":
            part = tl.dot(high, b - other, part, input_precision="tf32", out_dtype=acc.dtype)
            acc += tl.dot(high, other, part, input_precision="tf32", out_dtype=acc.dtype)
        else:
            # Subtracted: what is added to a product becomes its accumulator, and a chain again.
            part -= tl.dot(-high, b - other, input_precision="tf32", out_dtype=acc.dtype)
            acc += part - tl.dot(-high, other, input_precision="tf32", out_dtype=acc.dtype)
    else:
        acc = tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=acc.dtype)
    return acc


@jit
def multiple(value: tl.tensor, UNIT: tl.constexpr) -> tl.tensor:
    """A size or stride that is a multiple of UNIT, as the compiler then knows.

    Triton itself notices multiples of 16; rows of 20 floats deserve 16-byte loads too.
    """
    return value // UNIT * UNIT


@jit
def tile(
    matrix: tl.tensor,
    rows: tl.tensor,
    cols: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    UNIT: tl.constexpr,
) -> tl.tensor:
    """matrix[rows, cols] of a dense [height, width] matrix, 0 outside; rows or cols may be [1, n].

    UNIT: see `unit`, for runs of `width`.
    """
    width = multiple(width, UNIT)
    return tl.load(matrix + rows * width + cols, (rows < height) & (cols < width), other=0.0)


@jit
def fold(
    gradient: tl.tensor, base: tl.tensor, mask: tl.tensor, alpha: tl.tensor, beta: tl.tensor
) -> tl.tensor:
    """`beta base + alpha gradient`; base: pointers, not read where beta is 0."""
    result = alpha * gradient
    if beta != 0:
        result += beta * tl.load(base, mask, other=0.0)
    return result
