"""Inputs of the layer operations' tests, and what all of them promise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fedfast import _fedfast

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
DTYPES = tuple(TOLERANCE)
ISAS = {"portable": 0, "avx2": 1, "avx512": 2}


def block(seed: int, *shape: int, dtype: torch.dtype = torch.float32, kind: str = "bank") -> Tensor:
    """Random `[K, ...]`: "bank" is dense, "strided" a view of longer rows, "shared" one row."""
    clients, *inner = shape
    size = torch.Size(inner).numel()
    generator = torch.Generator().manual_seed(seed)
    gap = 13 if kind == "strided" else 0
    rows = 1 if kind == "shared" else clients
    flat = torch.randn(rows, size + gap, dtype=dtype, generator=generator)
    stride = 0 if kind == "shared" else size + gap
    dense = torch.empty(inner).stride()
    return flat.as_strided((clients, *inner), (stride, *dense), gap // 2)


def poison(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """An output full of NaN."""
    return torch.full(shape, torch.nan, dtype=dtype)


def close(found: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
    """Each client's error is at most `tolerance` times the norm of what is expected."""
    tolerance = TOLERANCE[found.dtype] if tolerance is None else tolerance
    assert found.shape == expected.shape
    error = (found.double() - expected).flatten(1).norm(dim=1)
    bound = tolerance * expected.flatten(1).norm(dim=1)
    assert (error <= bound + 1e-300).all(), f"error {error}, bound {bound}"


def same(a: Tensor, b: Tensor) -> None:
    """Bit for bit, NaN equal to NaN."""
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch's thread count for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def isa(name: str) -> Iterator[None]:
    """Products by no more than this instruction set for a while."""
    _fedfast.gemm_limit(ISAS[name])
    try:
        yield
    finally:
        _fedfast.gemm_limit(max(ISAS.values()))
