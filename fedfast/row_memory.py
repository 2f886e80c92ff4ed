"""Memory that is reserved whole and costs nothing until it is written, and rows on a disk."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from .kernels.rounded_rows import copy_rows
from .shared_memory import MAP_NORESERVE, PAGE, PlacedFile, SharedMemory

CPU = torch.device("cpu")
Transfer = Callable[[int, Sequence[memoryview], int], int]  # os.preadv, os.pwritev


def reserved(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros of that shape. On the CPU pages are taken as they are first written.

    Raises MemoryError where there is no address space for it, as under `ulimit -v`.
    """
    count = int(np.prod(shape))
    if device.type != "cpu" or count == 0:
        return torch.zeros(shape, dtype=dtype, device=device)
    size = -(-count * dtype.itemsize // PAGE) * PAGE
    try:
        memory = _anonymous(size)
    except OSError as error:
        raise MemoryError(f"{size >> 20} MiB of address space: {error}") from error
    return torch.frombuffer(memory, dtype=dtype, count=count).view(shape)


def _anonymous(size: int) -> mmap.mmap:
    """Linux counts what is reserved so as nobody's until it is written."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return mmap.mmap(-1, size, flags=flags | (MAP_NORESERVE if os.name == "posix" else 0))


def pitch(width: int, dtype: torch.dtype) -> int:
    """Elements from one row of `width` to the next, where rows begin at pages, which direct input
    and output asks for."""
    each = PAGE // dtype.itemsize
    return -(-width // each) * each


class MemoryRows:
    """Rows [places, width] in the memory of a device, in a dtype of their own.

    A thread may write rows while another one makes room for more.

    shared  whether other processes may open it; there is no room for more `places` then
    """

    def __init__(
        self,
        places: int,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
        shared: bool = False,
    ) -> None:
        self.dtype, self.width, self.device = dtype, width, device
        self._shared, self._lock = SharedMemory((places, width), dtype) if shared else None, Lock()
        held = self._shared
        self._rows = reserved((places, width), dtype, device) if held is None else held.tensor

    def file(self) -> PlacedFile | None:
        """Where other processes find the rows."""
        if self._shared is None:
            return None
        return PlacedFile(self._shared.about.number, self.width * self.dtype.itemsize)

    def allocate(self, places: int) -> None:
        """Make sure of the first `places`."""
        if places > len(self._rows):
            grown = reserved((2 * places, self.width), self.dtype, self.device)
            with self._lock:  # what is written meanwhile would stay behind
                grown[: len(self._rows)] = self._rows
                self._rows = grown

    def read(self, places: Tensor, into: Tensor, at: Tensor) -> None:
        """`into[at] = rows[places]`, in the dtype of `into` [n, pitch]."""
        copy_rows(self._rows, places, into[:, : self.width], at)

    def write(self, places: Tensor, source: Tensor, at: Tensor) -> None:
        """`rows[places] = source[at]`, rounded to the nearest of their dtype."""
        with self._lock:
            copy_rows(source[:, : self.width], at, self._rows, places)


class FileRows:
    """Rows [places, width] in a sparse file without a name: it is gone with the process that made
    it, however that ends. Where the file system can, it is read and written past the page cache.
    """

    def __init__(self, folder: Path, width: int, dtype: torch.dtype) -> None:
        self.folder, self.dtype, self.width, self.device = folder, dtype, width, CPU
        self.pitch, self._allocated = pitch(width, dtype), 0
        self._file = tempfile.TemporaryFile(dir=folder, prefix=".client-rows-", buffering=0)
        finalize(self, self._file.close)
        self._direct = _past_the_cache(self._file.fileno())
        self._rounded = torch.empty(0, self.pitch, dtype=dtype)

    def file(self) -> PlacedFile | None:
        """Where other processes find the rows."""
        return PlacedFile(self._file.fileno(), self.pitch * self.dtype.itemsize)

    def allocate(self, places: int) -> None:
        """Make sure of the disk's space for the first `places`. Raises OSError naming the option.

        A write cannot fail for want of space then, and so no round that is complete can be lost.
        """
        if places <= self._allocated:
            return
        each, first = self.pitch * self.dtype.itemsize, self._allocated
        try:
            os.posix_fallocate(self._file.fileno(), first * each, (places - first) * each)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise OSError(
                error.errno,
                f"client_rows: no room for {places} rows of {each / 2**20:.3g} MiB "
                f"({os.strerror(error.errno)}); the last complete round stays. Give "
                "client_rows_folder a larger disk, or client_rows_dtype='bfloat16'",
                str(self.folder),
            ) from error
        self._allocated = places

    def read(self, places: Tensor, into: Tensor, at: Tensor) -> None:
        """`into[at] = rows[places]`, in the dtype of `into` [n, pitch] on the CPU."""
        own = into if into.dtype == self.dtype else self._room(len(places))
        where = at if own is into else torch.arange(len(places))
        for place, row, many in _runs(places, where):
            self._transfer(os.preadv, place, own[row : row + many])
        if own is not into:
            copy_rows(own[:, : self.width], where, into[:, : self.width], at)

    def write(self, places: Tensor, source: Tensor, at: Tensor) -> None:
        """`rows[places] = source[at]`, rounded to the nearest of their dtype."""
        own, where = source, at
        if source.dtype != self.dtype:
            own, where = self._room(len(places)), torch.arange(len(places))
            copy_rows(source[:, : self.width], at, own[:, : self.width], where)
        for place, row, many in _runs(places, where):
            self._transfer(os.pwritev, place, own[row : row + many])

    def _room(self, count: int) -> Tensor:
        """For rows on their way, kept for the next ones: one call at a time uses it."""
        if count > len(self._rounded):
            self._rounded = reserved((count, self.pitch), self.dtype, CPU)
        return self._rounded[:count]

    def _moved(self, call: Transfer, data: memoryview, start: int) -> int:
        try:
            return call(self._file.fileno(), [data], start)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._direct:
                raise
        self._direct = _past_the_cache(self._file.fileno(), False)  # it takes the flag, not the use
        return call(self._file.fileno(), [data], start)

    def _transfer(self, call: Transfer, place: int, rows: Tensor) -> None:
        """All bytes of contiguous rows; the system may move fewer at once than it is asked for."""
        data = rows.view(torch.uint8).numpy().reshape(-1).data
        done, start = 0, place * self.pitch * self.dtype.itemsize
        while done < len(data):
            moved = self._moved(call, data[done:], start + done)
            if moved <= 0:
                raise OSError(errno.EIO, "client_rows: a row was cut short", str(self.folder))
            done += moved


def _past_the_cache(file: int, wanted: bool = True) -> bool:
    """Switch direct input and output on or off; whether it is on, which not every system has."""
    direct = getattr(os, "O_DIRECT", 0)
    if not direct:
        return False
    import fcntl

    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, flags | direct if wanted else flags & ~direct)
    except OSError:
        return False
    return wanted


def _runs(places: Tensor, rows: Tensor) -> Iterator[tuple[int, int, int]]:
    """(first place, first row, how many) of pairs that follow each other in both."""
    if not len(places):
        return
    p, r = places.numpy(), rows.numpy()
    cuts = np.flatnonzero((np.diff(p) != 1) | (np.diff(r) != 1)) + 1
    for a, b in zip([0, *cuts], [*cuts, len(p)], strict=True):
        yield int(p[a]), int(r[a]), int(b - a)
