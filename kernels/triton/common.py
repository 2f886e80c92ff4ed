"""Triton where it is installed, and what every kernel shares: launching, operands, blocks of a row.

Without Triton the names are stand-ins: kernels can still be defined, the error comes at first use.

Every launch turns floating-point contraction off: the default differs between Triton versions,
row-sized loops are limited by memory anyway, and without it a product and a sum round as in torch.
Kernels launch a flat grid with the client index fastest, so that a shared row is read by
neighbouring programs and stays in L2 whatever its length.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, Protocol, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from ..placed import PlacedRows, RowsLike
from ..recording import keep

try:
    import triton
    import triton.language as tl
except ImportError:  # reported at first use
    triton = None
    tl = None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = (torch.float32, torch.float64)
P = ParamSpec("P")
R = TypeVar("R")
Result = TypeVar("Result", covariant=True)
MOST_ELEMENTS = 2**31 - 4096  # of a client: a kernel counts them, and its last block, in int32


class Kernel(Protocol[P, Result]):
    """A compiled function: others call it, a grid of programs launches it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Within a kernel."""

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., object]:
        """On a grid."""


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


@overload
def jit(function: Callable[P, R], /) -> Kernel[P, R]: ...
@overload
def jit(*, do_not_specialize: Sequence[str]) -> Callable[[Callable[P, R]], Kernel[P, R]]: ...
def jit(function: Callable[P, R] | None = None, /, **options: Sequence[str]) -> object:
    """`triton.jit`, or the bare function where Triton is absent."""
    if function is None:
        return lambda f: jit(f, **options)
    return function if triton is None else triton.jit(function, **options)


def launch(
    kernel: Kernel[..., object], programs: int, tensor: Tensor, *args: object, **meta: object
) -> None:
    """Run `kernel` with `programs` programs on the device of `tensor`; no programs, no launch."""
    if programs > 0:
        keep(args)
        start(kernel, programs, tensor, args, meta)


def start(
    kernel: Kernel[..., object],
    programs: int,
    tensor: Tensor,
    args: tuple[object, ...],
    meta: dict[str, object],
) -> None:
    """Hand a launch to Triton."""
    meta = {name: _constant(value) for name, value in meta.items()}
    with _on(tensor):
        kernel[(programs,)](*args, enable_fp_fusion=False, **meta)


def _constant(value: object) -> object:
    """A tuple with constants for elements: Triton 3.6 compiles no constexpr tuple of plain ones.

    The interpreter computes with Python's numbers, which some constants do not mix with.
    """
    if isinstance(value, tuple) and not INTERPRETED:
        return tuple(map(tl.constexpr, value))
    return value


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    """The device of `tensor`; interpreted, NumPy overflows as quietly as a GPU does."""
    if INTERPRETED:
        return np.errstate(all="ignore")
    if not tensor.is_cuda or tensor.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(tensor.device)


def block_size(terms: int) -> int:
    """Elements per program of 8 warps: fewer where many terms would fill the registers."""
    return 4096 if terms <= 3 else 2048


def strided(t: Tensor | None) -> tuple[Tensor | None, int]:
    """A `[K, S]` operand as (pointer, row stride); (None, 0) for None."""
    return (None, 0) if t is None else (t, t.stride(0))


def placed(rows: RowsLike) -> tuple[Tensor, int, Tensor | None]:
    """A `[K, S]` operand as (pointer, row stride, places); places None: row k is client k's."""
    if isinstance(rows, PlacedRows):
        return rows.table, rows.table.stride(0), rows.places
    return rows, rows.stride(0), None


def pack(
    terms: Sequence[tuple[RowsLike, Tensor]],
) -> tuple[tuple[Tensor, ...], tuple[int, ...], tuple[Tensor | None, ...], tuple[Tensor, ...]]:
    """Terms (`[K, S]`, `[K]`) as four tuples: buffers, row strides, places, coefficients."""
    buffers, strides, places = zip(*(placed(d) for d, _ in terms), strict=True)
    return buffers, strides, places, tuple(c for _, c in terms)


@jit
def row_of(places: tl.tensor, k: tl.tensor) -> tl.tensor:
    """Which row of its bank is client k's (int64)."""
    row = k
    if places is not None:
        row = tl.load(places + k)
    return row


@jit
def combine(
    buffers: tl.tuple,
    strides: tl.tuple,
    places: tl.tuple,
    coefs: tl.tuple,
    k: tl.tensor,
    cols: tl.tensor,
    mask: tl.tensor,
) -> tl.tensor:
    """`sum_j c_j d_j` of client k (int64) on one block of columns, in the order given."""
    first = buffers[0] + row_of(places[0], k) * strides[0]
    total = tl.load(coefs[0] + k) * tl.load(first + cols, mask, other=0.0)
    for j in tl.static_range(1, len(buffers)):
        row = buffers[j] + row_of(places[j], k) * strides[j]
        d = tl.load(row + cols, mask, other=0.0)
        total += tl.load(coefs[j] + k) * d
    return total


@jit
def piece(
    table: tl.tensor,
    block: tl.tensor,
    size: tl.tensor,
    BLOCK: tl.constexpr,
    TABLED: tl.constexpr,
    ALIGNED: tl.constexpr,
) -> tuple[tl.tensor, ...]:
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
