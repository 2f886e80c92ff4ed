"""Memory that a process takes at its peak, read from the system."""

from __future__ import annotations

import fcntl
import os
import resource
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Peak:
    """The peak from `begun` on, where the system can forget earlier ones (Linux)."""

    @classmethod
    def begun(cls) -> Peak:
        """From now on."""
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        return cls()

    def bytes(self, device: torch.device) -> dict[str, int]:
        """host: resident; device: what torch has allocated there; disk: files it writes."""
        import torch

        gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        return {"host": _resident(), "device": gpu, "disk": _on_disk()}


def _resident() -> int:
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) << 10
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _on_disk() -> int:
    """Bytes on disk of the files that this process has open to write, its output aside.

    Sparse files count what was written. The disk tier's has no name any more (Linux).
    """
    open_files = Path("/proc/self/fd")
    held: dict[tuple[int, int], int] = {}
    for number in os.listdir(open_files) if open_files.exists() else ():
        with suppress(OSError):  # the listing's own is closed by now
            found = os.fstat(int(number))
            writes = fcntl.fcntl(int(number), fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR)
            if int(number) > 2 and stat.S_ISREG(found.st_mode) and writes:
                held[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(held.values())
