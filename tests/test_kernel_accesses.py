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
