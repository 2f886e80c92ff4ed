"""Parts of a file that are written and read block by block: rows that no memory holds at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from weakref import finalize

import torch
from torch import Tensor

ROWS = "clients row "  # how names of parts begin that are read block by block
BLOCK = 1 << 26  # bytes that are hashed, or brought from a device, at once


class Damaged(ValueError):
    """A file that is no saved simulation, or no longer what was saved."""


class Streamed(Protocol):
    """A tensor [n, width] that comes in blocks of rows."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""

    @property
    def shape(self) -> torch.Size:
        """[n, width]"""

    def blocks(self) -> Iterator[Tensor]:
        """All rows, in order."""


Part = Tensor | Streamed


def rows_at_once(width: int, dtype: torch.dtype) -> int:
    """Rows of a block."""
    return max(1, BLOCK // max(1, width * dtype.itemsize))


@dataclass(frozen=True)
class RowsInBlocks:
    """Rows [n, width] that `read(begin, end)` copies from where they are kept."""

    dtype: torch.dtype
    shape: torch.Size
    read: Callable[[int, int], Tensor]

    def blocks(self) -> Iterator[Tensor]:
        """All rows, in order."""
        count, width = self.shape
        many = rows_at_once(width, self.dtype)
        for begin in range(0, count, many):
            yield self.read(begin, min(begin + many, count))


class OpenFile:
    """A file that is read at any place, closed as soon as nobody refers to it."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        finalize(self, os.close, self.number)

    def read(self, begin: int, size: int) -> bytearray:
        """So many bytes. Raises Damaged where the file ends before."""
        data = bytearray()
        while len(data) < size:
            more = os.pread(self.number, size - len(data), begin + len(data))
            if not more:
                raise Damaged("it is cut short")
            data += more
        return data


@dataclass(frozen=True)
class RowsOfFile:
    """Rows of a part of a safetensors file, which stays open; checked as they are read.

    file, begin  the file and where in it the part begins
    sha          SHA-256 of its bytes
    """

    name: str
    dtype: torch.dtype
    shape: torch.Size
    file: OpenFile
    begin: int
    sha: str

    @classmethod
    def of(cls, file: OpenFile, name: str, described: list[object]) -> RowsOfFile:
        """A part as the manifest describes it: [dtype, shape, SHA-256]. Raises Damaged."""
        kind, shape, sha = described
        dtype = getattr(torch, str(kind), None)
        if not isinstance(dtype, torch.dtype) or not isinstance(shape, list) or len(shape) != 2:
            raise Damaged(f"its part {name} is no rows")
        head = int.from_bytes(file.read(0, 8), "little")
        header = json.loads(file.read(8, head))
        begin, end = header[name]["data_offsets"]
        if end - begin != torch.Size(shape).numel() * dtype.itemsize:
            raise Damaged(f"its part {name} is another than its manifest says")
        return cls(name, dtype, torch.Size(shape), file, 8 + head + begin, str(sha))

    def blocks(self) -> Iterator[Tensor]:
        """All rows, in order. Raises Damaged after the last one where their checksum is another."""
        total, (count, width) = hashlib.sha256(), self.shape
        many, place = rows_at_once(width, self.dtype), self.begin
        for begin in range(0, count, many):
            rows = min(many, count - begin)
            data = self.file.read(place, rows * width * self.dtype.itemsize)
            total.update(data)
            place += len(data)
            yield torch.frombuffer(data, dtype=self.dtype).view(rows, width)
        if total.hexdigest() != self.sha:
            raise Damaged(f"the checksum of its part {self.name} is another")


def blocks_of(part: Part) -> Iterator[Tensor]:
    """The rows of a part; a tensor is one block."""
    return iter((part,)) if isinstance(part, Tensor) else part.blocks()
