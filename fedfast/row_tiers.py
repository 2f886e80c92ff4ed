"""Which memory clients' rows are kept in between rounds: the device's, the host's, or a disk."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from .data.size_limits import available_memory
from .report.units import binary_size
from .row_memory import pitch

# Of what is free, for rows that are kept: others live in what is left.
SHARES = {"device": 0.7, "host": 0.7, "disk": 0.95}
MOUNTS = Path("/proc/mounts")
REMEDIES = (
    "take fewer rounds, client_rows_dtype='bfloat16', or client_rows_folder=... on a larger disk"
)


@dataclass(frozen=True)
class RowTier:
    """Where rows are kept.

    name    "device", "host" (the CPU's memory) or "disk"
    dtype   they are stored in, None as they are worked on
    places  that a run is expected to use; cohort: the most clients of a round
    folder  of the disk's file
    work    bytes on the device that rows in work take beside those kept, kept: bytes of these
    why     one line for people
    shared  whether other processes of this machine read the rows, and what belongs to them
    """

    name: str = "device"
    dtype: torch.dtype | None = None
    places: int = 64
    cohort: int = 1
    folder: Path | None = None
    work: int = 0
    kept: int = 0
    why: str = ""
    shared: bool = False

    def staged(self, dtype: torch.dtype) -> bool:
        """Whether rows worked on in `dtype` are copies of what is kept."""
        return self.name != "device" or self.dtype not in (None, dtype)

    @property
    def on_device(self) -> int:
        """Bytes of the device's memory."""
        return self.work + (self.kept if self.name == "device" else 0)

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True)
class RowNeed:
    """What rows a run keeps, and what there is for them.

    widths      name -> elements of a row, which is worked on in `dtype` on `device`
    population  N; rounds; cohort: the most of a round; expected: clients that will have rows
    free        bytes of the device for rows
    """

    widths: Mapping[str, int]
    dtype: torch.dtype
    device: torch.device
    population: int
    rounds: int
    cohort: int
    expected: int
    free: int

    def kept(self, dtype: torch.dtype, file: bool = False) -> int:
        """Bytes of all rows, a spare one for each of a cohort and a blank one among them; rows of a
        file are whole pages."""
        each = sum(self.widths.values()) * dtype.itemsize
        return (_bytes(self.widths, dtype) if file else each) * (self.expected + self.cohort + 1)

    def work(self, stored: torch.dtype) -> int:
        """Bytes of the copies that are worked on: the new rows of two rounds, those that come back
        in two, a blank one; and of what is rounded."""
        back = math.ceil(self.cohort * self.expected / self.population)
        own = (2 * self.cohort + 2 * back + 1) * _bytes(self.widths, self.dtype)
        return own + (self.cohort * _bytes(self.widths, stored) if stored != self.dtype else 0)


def _bytes(widths: Mapping[str, int], dtype: torch.dtype) -> int:
    return sum(pitch(width, dtype) for width in widths.values()) * dtype.itemsize


def choose(name: str, dtype: torch.dtype | None, folder: Path | None, need: RowNeed) -> RowTier:
    """The tier of that `name`, or for "auto" the first that has room: device, host, disk.

    Raises ValueError naming the option where there is no room, and what else can be changed.
    """
    if not need.widths:
        return RowTier()
    asked: tuple[str, ...] = ("device", "host", "disk") if name == "auto" else (name,)
    if need.device.type == "cpu":  # whose memory is the host's
        asked = tuple(dict.fromkeys("device" if n == "host" else n for n in asked))
    lacking: list[str] = []
    for each in asked:
        if each == "disk" and folder is not None and not _writable(folder):
            raise ValueError(
                f"client_rows_folder: expected a folder that can be written; got {folder}"
            )
        tier = _tier(each, dtype, folder or _folder(), need)
        lacks = _lacks(tier, need)
        if not lacks:
            return _explained(tier, need, lacking)
        lacking.append(lacks)
    raise ValueError(
        f"client_rows: expected room for {_rows(need, tier.kept, dtype or need.dtype)}; got "
        f"{', '.join(lacking)}: {REMEDIES}"
    )


def _tier(name: str, dtype: torch.dtype | None, folder: Path, need: RowNeed) -> RowTier:
    stored = dtype or need.dtype
    staged = name != "device" or stored != need.dtype
    places, kept = need.expected + need.cohort, need.kept(stored, name == "disk")
    where = folder if name == "disk" else None
    work = need.work(stored) if staged else 0
    return RowTier(name, dtype, places, need.cohort, where, work, kept)


def _lacks(tier: RowTier, need: RowNeed) -> str:
    """What there is too little of, and how much there is; "" for nothing."""
    if tier.on_device > need.free:
        return f"{binary_size(need.free)} of memory on {need.device}"
    if tier.name == "host" and tier.kept > SHARES["host"] * available_memory():
        return f"{binary_size(available_memory())} of main memory"
    if tier.folder is None:
        return ""
    if not hasattr(os, "posix_fallocate"):
        return "a system without posix_fallocate, which the disk tier needs"
    if not _writable(tier.folder):
        return f"no folder {tier.folder} that can be written"
    free = shutil.disk_usage(tier.folder).free
    return "" if tier.kept <= SHARES["disk"] * free else f"{binary_size(free)} on {tier.folder}"


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _explained(tier: RowTier, need: RowNeed, lacking: list[str]) -> RowTier:
    places = {"device": f"in memory of {need.device}", "host": "in main memory"}
    where = places.get(tier.name, f"on disk in {tier.folder}")
    rows = _rows(need, tier.kept, tier.dtype or need.dtype)
    text = f"client rows: {rows}, kept {where}"
    if tier.work:
        text += f", {binary_size(tier.work)} of memory for those in work"
    if lacking:
        text += f"; there are {', '.join(lacking)}"
    return RowTier(**{**tier.__dict__, "why": text})


def _rows(need: RowNeed, kept: int, dtype: torch.dtype) -> str:
    size, kind = binary_size(kept), str(dtype).removeprefix("torch.")
    many = f"{need.expected:,} of {need.population:,} clients"
    return f"{size} of {kind}, rows of {many} in {need.rounds:,} rounds"


def _folder() -> Path:
    """For temporary files, on a disk where there is one."""
    given = Path(tempfile.gettempdir())
    large = Path("/var/tmp")
    return large if in_memory(given) and large.is_dir() and not in_memory(large) else given


def in_memory(folder: Path) -> bool:
    """Whether a folder's files are in main memory, as Linux tells."""
    mounted = ""
    where = folder.resolve()
    kind = ""
    for point, system in _mounts():
        if where.is_relative_to(point) and len(point) >= len(mounted):
            mounted, kind = point, system
    return kind in ("tmpfs", "ramfs")


def _mounts() -> Iterator[tuple[str, str]]:
    """(where, file system)"""
    with suppress(OSError):
        for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
            parts = line.split()
            if len(parts) > 2:
                yield parts[1], parts[2]
