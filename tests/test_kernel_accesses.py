"""Faults planted in kernels: what runs one program after another hides, the checker finds."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fedfast.kernels.triton import common

if common.triton is None or os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("runs in Triton's interpreter", allow_module_level=True)

tl = common.tl


@common.jit
def _double(x: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr) -> None:
    """As it should be."""
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = cols < size
    tl.store(out + cols, 2.0 * tl.load(x + cols, mask, other=0.0), mask)


@common.jit
def _overlapping(x: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr) -> None:
    """A block begins one element early: its first is another program's last."""
    cols = tl.program_id(0) * (BLOCK - 1) + tl.arange(0, BLOCK)
    mask = cols < size
    tl.store(out + cols, 2.0 * tl.load(x + cols, mask, other=0.0), mask)


@common.jit
def _neighbour(x: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr) -> None:
    """A program reads what the one before has written."""
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    before = tl.load(out + cols - BLOCK, (cols >= BLOCK) & (cols < size), other=0.0)
    tl.store(out + cols, before + tl.load(x + cols, cols < size, other=0.0), cols < size)


@common.jit
def _off_by_one(x: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr) -> None:
    """A mask that lets one element more through."""
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + cols, 2.0 * tl.load(x + cols, cols <= size, other=0.0), cols < size)


@common.jit
def _counting(x: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr) -> None:
    """A sum whose order nobody knows."""
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out + cols * 0, tl.load(x + cols, cols < size, other=0.0), cols < size)


def launch(kernel: Any, size: int = 40) -> torch.Tensor:
    x, out = torch.arange(1.0, size + 1), torch.zeros(size)
    common.launch(kernel, 3, x, x, out, size, BLOCK=16)
    return out


def test_programs_of_their_own_pass() -> None:
    assert torch.equal(launch(_double), 2 * torch.arange(1.0, 41))


@pytest.mark.parametrize(
    ("kernel", "found"),
    [
        (_overlapping, "_overlapping: programs 0 and 1 both write element 15 of out"),
        (_neighbour, "_neighbour: program 1 reads what program 0 writes, element 0 of out"),
        (_off_by_one, "_off_by_one: program 2 reads outside of every tensor, element 40 of x"),
        (_counting, "atomic"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_faults_are_found(kernel: Callable[..., None], found: str) -> None:
    with pytest.raises(Exception, match=found):
        launch(kernel)


@common.jit
def _normalised(x: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr) -> None:
    """Writes what other threads of the program read for their sum."""
    cols = tl.arange(0, BLOCK)
    last = tl.load(x + size - 1)
    tl.store(out + cols, tl.load(x + cols, cols < size, other=0.0) / last, cols < size)


@common.jit
def _ordered(x: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr) -> None:
    """The same, behind a barrier."""
    cols = tl.arange(0, BLOCK)
    last = tl.load(x + size - 1)
    tl.debug_barrier()
    tl.store(out + cols, tl.load(x + cols, cols < size, other=0.0) / last, cols < size)


@common.jit
def _turned(x: tl.tensor, out: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr) -> None:
    """Reads back what other threads of the program have written."""
    cols = tl.arange(0, BLOCK)
    tl.store(out + cols, tl.load(x + cols, cols < size, other=0.0), cols < size)
    back = tl.load(out + (size - 1 - cols), cols < size, other=0.0)
    tl.store(x + cols, back, cols < size)


def in_place(kernel: Any, size: int = 8) -> torch.Tensor:
    """By one program, on itself."""
    x = torch.arange(1.0, size + 1)
    common.launch(kernel, 1, x, x, x, size, BLOCK=16)
    return x


def test_a_program_may_write_what_it_has_read() -> None:
    """Element by element, or behind a barrier; in another tensor always."""
    assert torch.equal(in_place(_double), 2 * torch.arange(1.0, 9))
    assert torch.equal(in_place(_ordered), torch.arange(1.0, 9) / 8)
    x, out = torch.arange(1.0, 9), torch.zeros(8)
    common.launch(_normalised, 1, x, x, out, 8, BLOCK=16)
    assert torch.equal(out, x / 8)


@pytest.mark.parametrize(
    ("kernel", "found"),
    [
        (_normalised, "program 0 writes what its other threads may not yet have read, element 7"),
        (_turned, "program 0 reads what its other threads may not yet have written, element 7"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_missing_barrier_is_found(kernel: Callable[..., None], found: str) -> None:
    with pytest.raises(Exception, match=found):
        in_place(kernel)
