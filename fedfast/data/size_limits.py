"""Limits of size, checked before memory is allocated for what a file or an argument asks for."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
SHARE = 0.9  # of the memory that is free
SMALL = 64 << 20  # bytes that are not checked
MAX_LABEL = (1 << 24) - 1  # tables have a row or a column per class
MAX_TABLE = 1 << 27  # entries of a table of clients by classes
MAX_PIXELS = 89_478_485  # of one image: where Pillow warns of decompression bombs


def available_memory() -> int:
    """Bytes of main memory that are available, as Linux reports; elsewhere all there is."""
    with suppress(OSError):
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):  # what caches files can be had back
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(name: str, size: int) -> None:
    """ValueError unless `size` bytes fit into the memory that is free."""
    if size > SMALL and size > SHARE * available_memory():
        raise ValueError(
            f"{name}: expected what fits into memory, {available_memory() / 2**30:.1f} GiB free; "
            f"got {size / 2**30:.4g} GiB"
        )


def check_table(name: str, clients: int, largest: int) -> None:
    """ValueError where a table of clients by classes, up to `largest`, would be too large."""
    if clients * (largest + 1) > MAX_TABLE:
        raise ValueError(
            f"{name}: expected labels from 0 without large gaps; label {largest} and {clients} "
            f"clients ask for a table of {clients * (largest + 1):.3g} entries"
        )


def check_pixels(name: str, width: int, height: int) -> None:
    """ValueError for an image larger than any to train on: a small file may name any size."""
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{name}: expected an image of at most {MAX_PIXELS:,} pixels; found {width} x {height}"
        )


def read_whole(path: Path) -> bytes:
    """The bytes of a file that fits into memory."""
    check_memory(str(path), path.stat().st_size)
    return path.read_bytes()
