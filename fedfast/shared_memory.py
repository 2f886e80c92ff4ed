"""Memory that other processes of this machine open by its number.

It is a file in memory without a name (Linux's memfd): pages are taken as they are first written,
all of it is given back when the last process that has it open ends, however that comes. Whoever
has opened it keeps what is in it after the process that wrote it is gone.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

PAGE = 4096
MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Python names it from 3.13 on


@dataclass(frozen=True)
class SharedTensor:
    """A tensor as another process finds it: the number of its file here, its shape and dtype."""

    number: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class PlacedFile:
    """A file of rows: its number here, and bytes from one place to the next."""

    number: int
    pitch: int


class SharedMemory:
    """Zeros of a shape, `tensor`. Raises OSError where the system has no such memory."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("no memfd on this system")
        number = os.memfd_create("fedfast", os.MFD_CLOEXEC)
        finalize(self, os.close, number)
        self.about = SharedTensor(number, tuple(shape), dtype)
        os.ftruncate(number, _bytes(shape, dtype))
        self.tensor = _mapped(number, shape, dtype)


def opened(process: int, found: SharedTensor) -> Tensor:
    """The same memory, for reading. Raises OSError where it cannot be opened, as from other
    containers."""
    number = number_of(process, found.number)
    try:
        return _mapped(number, found.shape, found.dtype)
    finally:
        os.close(number)


def number_of(process: int, number: int) -> int:
    """A number of ours for a file that another process has open. Raises OSError."""
    return os.open(f"/proc/{process}/fd/{number}", os.O_RDWR | os.O_CLOEXEC)


def _bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return max(1, -(-size // PAGE)) * PAGE


def _mapped(number: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    count = int(np.prod(shape, dtype=np.int64))
    if not count:
        return torch.zeros(shape, dtype=dtype)
    flags = mmap.MAP_SHARED | MAP_NORESERVE
    memory = mmap.mmap(number, _bytes(shape, dtype), flags=flags)
    return torch.frombuffer(memory, dtype=dtype, count=count).view(shape)
