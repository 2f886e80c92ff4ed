"""Barriers that planted kernels lack are found, and none is asked for where data order threads."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from fedfast.kernels.triton import common

if common.triton is None or os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("runs in Triton's interpreter", allow_module_level=True)

tl = common.tl
SIZE, BLOCK = 200, 256
READ = "program 0 writes what its other threads may not yet have read, element "
AGAIN = "program 0 writes what its other threads may not yet have written, element "
WRITTEN = "program 0 reads what its other threads may not yet have written, element "


@common.jit
def _scaled(x: tl.tensor, out: tl.tensor, ORDERED: tl.constexpr, BLOCK: tl.constexpr) -> None:
    """By the last element, which every thread reads for itself."""
    cols = tl.arange(0, BLOCK)
    last = tl.load(x + 199)
    if ORDERED:
        tl.debug_barrier()
    tl.store(out + cols, tl.load(x + cols, cols < 200, other=0.0) / last, cols < 200)


@common.jit
def _centred(x: tl.tensor, out: tl.tensor, ORDERED: tl.constexpr, BLOCK: tl.constexpr) -> None:
    """A pass that adds up, a pass that subtracts: a thread may have the sum before others read."""
    cols = tl.arange(0, BLOCK)
    mean = tl.sum(tl.load(x + cols, cols < 200, other=0.0)) / 200
    if ORDERED:
        tl.debug_barrier()
    tl.store(out + cols, tl.load(x + cols, cols < 200, other=0.0) - mean, cols < 200)


@common.jit
def _turned(x: tl.tensor, out: tl.tensor, ORDERED: tl.constexpr, BLOCK: tl.constexpr) -> None:
    """Back to front: written as another element than it was read as."""
    cols = tl.arange(0, BLOCK)
    back = tl.load(x + (199 - cols), cols < 200, other=0.0)
    if ORDERED:
        tl.debug_barrier()
    tl.store(out + cols, back, cols < 200)


@common.jit
def _begun(x: tl.tensor, out: tl.tensor, ORDERED: tl.constexpr, BLOCK: tl.constexpr) -> None:
    """Every thread reads the first element for its own, and one writes it."""
    cols = 1 + tl.arange(0, BLOCK)
    first = tl.load(x)
    if ORDERED:
        tl.debug_barrier()
    tl.store(out + cols, first + tl.load(x + cols, cols < 200, other=0.0), cols < 200)
    tl.store(out, 2 * first)


@common.jit
def _read_back(x: tl.tensor, out: tl.tensor, ORDERED: tl.constexpr, BLOCK: tl.constexpr) -> None:
    """What other threads have written, in another order."""
    cols = tl.arange(0, BLOCK)
    tl.store(out + cols, 2 * tl.load(x + cols, cols < 200, other=0.0), cols < 200)
    if ORDERED:
        tl.debug_barrier()
    back = tl.load(out + (199 - cols), cols < 200, other=0.0)
    tl.store(out + 200 + cols, back, cols < 200)


@common.jit
def _written_again(
    x: tl.tensor, out: tl.tensor, ORDERED: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    """One thread writes an element, another the value that is meant to stay."""
    cols = tl.arange(0, BLOCK)
    tl.store(out + 200 + cols, 0.0 * cols, cols < 200)
    if ORDERED:
        tl.debug_barrier()
    tl.store(out + 399 - cols, 1.0 + 0.0 * cols, cols < 200)


@common.jit
def _met(x: tl.tensor, out: tl.tensor, ORDERED: tl.constexpr, BLOCK: tl.constexpr) -> None:
    """Two elements of a tile go to one place."""
    cols = tl.arange(0, BLOCK)
    tl.store(out + 200 + (cols if ORDERED else cols // 2), 0.0 * cols, cols < 200)


X = torch.arange(1.0, SIZE + 1)
PLANTED = {  # kernel: what it makes of X in place, and what is found without the barrier
    _scaled: (X / SIZE, f"{READ}199 of x"),
    _centred: (X - X.mean(), f"{READ}0 of x"),
    _turned: (X.flip(0), f"{READ}0 of x"),
    _begun: (torch.cat([2 * X[:1], X[1:] + 1]), f"{READ}0 of x"),
    _read_back: (2 * X, f"{WRITTEN}199 of x"),
    _written_again: (X, f"{AGAIN}399 of x"),
    _met: (X, f"{AGAIN}200 of x"),
}


def in_place(kernel: Any, **meta: Any) -> torch.Tensor:
    """By one program, on itself."""
    x = torch.cat([X, torch.zeros(SIZE)])
    common.launch(kernel, 1, x, x, x, BLOCK=BLOCK, **meta)
    return x


@pytest.mark.parametrize("kernel", PLANTED, ids=lambda kernel: kernel.__name__)
def test_a_missing_barrier_is_found(kernel: Any) -> None:
    expected, found = PLANTED[kernel]
    torch.testing.assert_close(in_place(kernel, ORDERED=True)[:SIZE], expected)
    with pytest.raises(Exception, match=found):
        in_place(kernel, ORDERED=False)


@pytest.mark.parametrize("kernel", [_scaled, _centred, _turned], ids=lambda kernel: kernel.__name__)
def test_other_tensors_need_none(kernel: Any) -> None:
    out = torch.zeros(SIZE)
    common.launch(kernel, 1, X, X, out, ORDERED=False, BLOCK=BLOCK)
    torch.testing.assert_close(out, PLANTED[kernel][0])


@common.jit
def _element_by_element(x: tl.tensor, out: tl.tensor, BLOCK: tl.constexpr) -> None:
    """Read twice, both times for the element that is written; once for nothing."""
    cols = tl.arange(0, BLOCK)
    unused = tl.load(out + (199 - cols), cols < 200, other=0.0) * 2
    here = tl.load(x + cols, cols < 200, other=0.0)
    tl.store(out + cols, here + tl.load(out + cols, cols < 200, other=0.0), cols < 200)
    tl.static_assert(unused.shape[0] == BLOCK)


@common.jit
def _counted(x: tl.tensor, out: tl.tensor, BLOCK: tl.constexpr) -> None:
    """One number and a small tile, of which threads have copies that nobody else makes use of."""
    cols = tl.arange(0, 16)
    tl.store(out, tl.load(x) + 1)
    tl.store(out + 1 + cols, 3 * tl.load(x + 1 + cols))
    tl.static_assert(BLOCK > 16)


def test_threads_keep_the_order_of_their_own_data() -> None:
    """Element by element no barrier is asked for; what is not made use of may come late."""
    assert torch.equal(in_place(_element_by_element)[:SIZE], 2 * X)
    expected = torch.cat([X[:1] + 1, 3 * X[1:17], X[17:]])
    assert torch.equal(in_place(_counted)[:SIZE], expected)
