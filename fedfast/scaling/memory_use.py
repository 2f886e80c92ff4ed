"""Memory that a process takes at its peak, read from the system."""

from __future__ import annotations

import resource
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
        """host: resident; device: what torch has allocated there; disk: files of this process."""
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
    """Bytes that files mapped by this process for writing, shared, take on disk."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return 0
    files = set()
    for line in maps.read_text().splitlines():
        mode, path = line.split()[1], line.partition("/")[2]
        if mode[1] == "w" and mode[3] == "s" and path and not path.startswith(("dev/", "memfd:")):
            files.add(Path(f"/{path}".removesuffix(" (deleted)")))
    return sum(path.stat().st_blocks * 512 for path in files if path.is_file())
