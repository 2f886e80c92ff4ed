"""Triton where it is installed, and what every kernel shares: launching, terms, ordered sums.

Without Triton the names are stand-ins: kernels can still be defined, the error comes at first use.

Every launch turns floating-point contraction off: the default differs between Triton versions,
row-sized loops are limited by memory anyway, and without it a product and a sum round as in torch.
Kernels launch a flat grid with the client index fastest, so that a shared row is read by
neighbouring programs and stays in L2 whatever its length.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # reported at first use
    triton = None
    tl = None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = (torch.float32, torch.float64)
# `tl.dot`'s names of `PRECISIONS`, and what `dot` does of its own. The interpreter multiplies no
# bfloat16: rounded operands as float32 have the same products, exact in both.
DOT = {"fp32": "ieee", "tf32x3": "tf32x3", "tf32": "tf32"}
DOT |= {"bf16": "rounded" if INTERPRETED else "bf16"}
ROUGH = ("tf32", "bf16", "rounded")  # one product of rounded operands: tiles may be larger
MOST_ELEMENTS = 2**31 - 4096  # of a client: a kernel counts them, and its last block, in int32
FEW_SLOTS = 512  # up to so many partial sums are added by every program that needs their total


def require(tensor: Tensor) -> None:
    """Raise RuntimeError if Triton is missing, ValueError/TypeError if it cannot serve `tensor`."""
    if triton is None:
        raise RuntimeError(
            "Triton is not installed; 'pip install triton' (Linux), or choose another backend"
        )
    if tensor.device.type != "cuda" and not INTERPRETED:
        raise ValueError(
            f"backend='triton' serves cuda tensors; this one is on {tensor.device} "
            "(for tests, TRITON_INTERPRET=1 set before import runs it on the CPU)"
        )
    if tensor.dtype not in DTYPES:
        raise TypeError(f"backend='triton' serves float32 and float64; got {tensor.dtype}")
    if tensor.numel() > MOST_ELEMENTS * tensor.shape[0]:
        raise ValueError(
            f"backend='triton' serves up to {MOST_ELEMENTS} elements of a client, which it counts "
            f"in 32 bits; got shape {list(tensor.shape)}"
        )


def jit(function: Any = None, **options: Any) -> Any:
    """`triton.jit`, or the bare function where Triton is absent."""
    if function is None:
        return lambda f: jit(f, **options)
    return function if triton is None else triton.jit(function, **options)


def launch(kernel: Any, programs: int, tensor: Tensor, *args: Any, **meta: Any) -> None:
    """Run `kernel` with `programs` programs on the device of `tensor`; no programs, no launch."""
    if programs > 0:
        meta = {name: _constant(value) for name, value in meta.items()}
        with _on(tensor):
            kernel[(programs,)](*args, enable_fp_fusion=False, **meta)


def _constant(value: Any) -> Any:
    """A tuple with constants for elements: Triton 3.6 compiles no constexpr tuple of plain ones.

    The interpreter computes with Python's numbers, which some constants do not mix with.
    """
    tupled = isinstance(value, tuple) and not INTERPRETED
    return tuple(map(tl.constexpr, value)) if tupled else value


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    """The device of `tensor`; interpreted, NumPy is told to overflow as quietly as a GPU does."""
    if INTERPRETED:
        return np.errstate(all="ignore")
    if not tensor.is_cuda or tensor.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(tensor.device)


def block_size(terms: int) -> int:
    """Elements per program of 8 warps: fewer where many terms would fill the registers."""
    return 4096 if terms <= 3 else 2048


def dot_precision(precision: str, like: Tensor) -> str:
    """`PRECISION` for `dot`: float64 has only its own."""
    return DOT[precision] if like.dtype == torch.float32 else "ieee"


def unit(t: Tensor, length: int) -> int:
    """`UNIT` for `multiple`: elements of a 16-byte access if runs of `length` and clients allow."""
    width = 16 // t.element_size()
    return 1 if length % width or t.stride(0) % width else width


def strided(t: Tensor | None) -> tuple[Tensor | None, int]:
    """A `[K, S]` operand as (pointer, row stride); (None, 0) for None."""
    return (None, 0) if t is None else (t, t.stride(0))


def pack(terms: Sequence[tuple[Tensor, Tensor]]) -> tuple[tuple[Any, ...], ...]:
    """Terms (`[K, S]`, `[K]`) as three tuples: buffers, row strides, coefficients."""
    buffers = tuple(d for d, _ in terms)
    return buffers, tuple(d.stride(0) for d in buffers), tuple(c for _, c in terms)


def slots(bank: Tensor, *shape: int) -> Tensor:
    """Float64 places for partial sums, each written by one program."""
    return torch.empty(shape, dtype=torch.float64, device=bank.device)


def few(partial: Tensor) -> Tensor:
    """`[K, n]` partial sums as they are while n is small, else their totals `[K, 1]`."""
    clients, count = partial.shape
    if count <= FEW_SLOTS:
        return partial
    out = slots(partial, clients, 1)
    launch(totals, clients, partial, partial, out, 1, count, num_warps=8)
    return out


class Squares(NamedTuple):
    """Partial sums of squares of what a launch writes: `slots` [K, places], its own from first."""

    slots: Tensor | None = None
    places: int = 0
    first: int = 0

    @classmethod
    def of(cls, bank: Tensor, places: int) -> Squares:
        """For so many programs of every client."""
        return cls(slots(bank, bank.shape[0], places), places)

    def add_up(self, out: Tensor | None) -> None:
        """out `[K]` = each client's sum of all places, in their order."""
        if self.slots is not None and out is not None:
            given = self.slots, out, out.stride(0), self.places
            launch(totals, out.shape[0], out, *given, num_warps=8)

    def behind(self, used: int) -> Squares:
        """The slots behind `used` of them."""
        return self._replace(first=self.first + used)


@jit
def combine(buffers, strides, coefs, k, cols, mask):
    """`sum_j c_j d_j` of client k (int64) on one block of columns, in the order given."""
    total = tl.load(coefs[0] + k) * tl.load(buffers[0] + k * strides[0] + cols, mask, other=0.0)
    for j in tl.static_range(1, len(buffers)):
        d = tl.load(buffers[j] + k * strides[j] + cols, mask, other=0.0)
        total += tl.load(coefs[j] + k) * d
    return total


@jit
def rounded(x):
    """float32 x to the nearest bfloat16, of two the even one, as float32; a NaN stays one.

    For the interpreter, whose own conversion cuts off.
    """
    bits = x.to(tl.int32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
    return tl.where(x == x, bits.to(tl.float32, bitcast=True), x)


@jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """`acc + a b` of tiles [M, R] and [R, N], in the accumulator's dtype."""
    if PRECISION == "bf16":
        acc = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), acc, out_dtype=acc.dtype)
    elif PRECISION == "rounded":
        acc = tl.dot(rounded(a), rounded(b), acc, input_precision="ieee", out_dtype=acc.dtype)
    else:
        acc = tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=acc.dtype)
    return acc


@jit
def multiple(value, UNIT: tl.constexpr):
    """A size or stride that is a multiple of UNIT, as the compiler then knows.

    Triton itself notices multiples of 16; rows of 20 floats deserve 16-byte loads too.
    """
    return value // UNIT * UNIT


@jit
def tile(matrix, rows, cols, height, width, UNIT: tl.constexpr):
    """matrix[rows, cols] of a dense [height, width] matrix, 0 outside; rows or cols may be [1, n].

    UNIT: see `unit`, for runs of `width`.
    """
    width = multiple(width, UNIT)
    return tl.load(matrix + rows * width + cols, (rows < height) & (cols < width), other=0.0)


@jit
def fold(gradient, base, mask, alpha, beta):
    """`beta base + alpha gradient`; base: pointers, not read where beta is 0."""
    result = alpha * gradient
    if beta != 0:
        result += beta * tl.load(base, mask, other=0.0)
    return result


@jit
def squares(x):
    """Sum of squares of a block, in float64."""
    wide = x.to(tl.float64)
    return tl.sum(wide * wide, axis=0)


@jit
def note_squares(slots, k, place, x, mask):
    """In float64, the sum of squares of a tile or block x where mask, to a program's own slot.

    slots: (`[K, count]` or None, count, this launch's first); place: the program's
    """
    if slots[0] is not None:
        wide = tl.where(mask, x, 0.0).to(tl.float64)
        tl.store(slots[0] + k * slots[1] + slots[2] + place, tl.sum(wide * wide))


@jit
def total(partial, count, LANES: tl.constexpr = 512):
    """Sum of `count` float64 slots, in an order that `count` alone decides."""
    lanes = tl.arange(0, LANES)
    sums = tl.zeros((LANES,), tl.float64)
    for start in range(0, count, LANES):
        here = start + lanes
        sums += tl.load(partial + here, here < count, other=0.0)
    return tl.sum(sums, axis=0)


@jit(do_not_specialize=["stride", "count"])
def totals(partial, out, stride, count):
    """out [K] = the sum of each row of partial [K, count]; one program per client."""
    k = tl.program_id(0).to(tl.int64)
    tl.store(out + k * stride, total(partial + k * count, count, 4096))


@jit
def piece(table, block, size, BLOCK: tl.constexpr, TABLED: tl.constexpr, ALIGNED: tl.constexpr):
    """(start, stop, edge, layer, is_weight) of a block: from `segments.Blocks`, or of the row."""
    start = block * BLOCK
    stop = size
    edge = size
    layer = block * 0
    is_weight = layer + 1
    if TABLED:
        row = table + block * 5
        start = tl.load(row)
        stop = tl.load(row + 1)
        edge = tl.load(row + 2)
        layer = tl.load(row + 3)
        is_weight = tl.load(row + 4)
        if ALIGNED:
            start = tl.multiple_of(start, 16)
            edge = tl.multiple_of(edge, 16)
    return start, stop, edge, layer, is_weight
