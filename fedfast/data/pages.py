"""Samples larger than memory: tensors whose memory is a file, read row by row as they are needed.

Nothing marks such a tensor but its address: whatever maps a file (numpy.memmap, numpy.load with
mmap_mode, torch.from_file, safetensors) is found. On systems without /proc none is, and its samples
count as memory.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..kernels import native

MAPS = Path("/proc/self/maps")
SMALL = 1 << 20  # bytes of tensors that nobody asks about
SHARED = ("/dev/shm/", "/memfd:", "/SYSV", "/dev/zero")  # files that are memory
AHEAD = 1 << 30  # bytes that are asked for at once
DIGESTED = 64 << 20  # bytes that a digest of a large file is made of


def file_of(t: Tensor) -> str | None:
    """The file that the tensor's memory is mapped from; None where it is memory."""
    if t.device.type != "cpu" or t.numel() * t.element_size() < SMALL:
        return None
    return file_at(t.data_ptr())


def file_at(address: int) -> str | None:
    """The file that is mapped there."""
    try:
        listed = MAPS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in listed.splitlines():
        span, _, _, _, inode, *path = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= address < last:
            is_file = inode != "0" and path and not path[0].startswith(SHARED)
            return path[0] if is_file else None
    return None


def resident_bytes(t: Tensor) -> int:
    """Bytes of memory that a tensor takes for itself: none where its memory is a file."""
    return 0 if file_of(t) else t.numel() * t.element_size()


def spread_rows(t: Tensor) -> Tensor:
    """Rows from the first to the last, evenly spread, of at most `DIGESTED` bytes together."""
    each = max(1, t[:1].numel() * t.element_size())
    count = min(len(t), max(2, DIGESTED // each))
    return t[torch.linspace(0, len(t) - 1, count, dtype=torch.float64).long()]


class PagesAhead:
    """Has rows of `x` [n, ...] read from its file by the time that they are gathered.

    Does nothing where `x` is memory. A thread asks for them, for that can take as long as a round.
    """

    def __init__(self, x: Tensor) -> None:
        self._x, self._asked = x, Future[int]()
        self._each = x[:1].numel() * x.element_size()
        self.file = file_of(x) if hasattr(native.module, "will_need") else None
        self._first = self._status()
        self._thread = ThreadPoolExecutor(1, "fedfast-pages") if self.file else None
        if self.file:  # else every page that is read brings its neighbours, which nobody asked for
            native.module.any_order(x.data_ptr(), x.numel() * x.element_size())

    def ask(self, rows: Tensor | np.ndarray) -> None:
        """These rows [m] will be gathered soon: the first of them, as many as `AHEAD` bytes are.

        Raises OSError where the file was cut short: reading it would end the process (SIGBUS).
        """
        if self._thread is not None:
            self._check_size()
            few = rows[: AHEAD // max(1, self._each)]
            self._asked = self._thread.submit(self._ask, np.ascontiguousarray(few))

    def wait(self) -> int:
        """Until all rows have been asked for; how many ranges of the file the last ones were."""
        return self._asked.result()

    def _status(self) -> os.stat_result | None:
        """Of the file; None where there is none of that name any more, which harms nobody."""
        try:
            return os.stat(self.file) if self.file else None
        except OSError:
            return None

    def _check_size(self) -> None:
        now, first = self._status(), self._first
        if now is None or first is None or (now.st_ino, now.st_dev) != (first.st_ino, first.st_dev):
            return  # replaced: what is mapped is the file that was there
        if now.st_size < first.st_size:
            raise OSError(
                f"{self.file}: expected the {first.st_size:,} bytes that it had when the run "
                f"began; found {now.st_size:,}: it must stay as it is while it is read"
            )

    def _ask(self, rows: np.ndarray) -> int:
        where = self._x.data_ptr(), self._each
        return native.module.will_need(*where, rows.ctypes.data, rows.size)
