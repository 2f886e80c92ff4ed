"""How many clients fit: bytes per client of a run, and the largest K within a budget."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch

from .algorithms import Algorithm
from .layout import FlatLayout
from .schedule import Schedule

SHARE = 0.25  # of free memory; data, activations and the rest of the machine live in what is left
FALLBACK = 4 << 30  # where the system does not tell
MEMINFO = Path("/proc/meminfo")


def bytes_per_client(layout: FlatLayout, algorithm: Algorithm) -> int:
    """Bytes one client adds to the live buffers: w, g, and w_adv and m where there are any."""
    banks = 2 + int(algorithm.local.ascends) + int(algorithm.local.momentum > 0)
    return max(1, banks * layout.stride * layout.dtype.itemsize)


def free_bytes(device: torch.device) -> int:
    """Free memory of the device, as the system tells it; what caches files can be had back."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError):
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return FALLBACK


def clients_per_chunk(
    layout: FlatLayout,
    algorithm: Algorithm,
    schedule: Schedule,
    device: torch.device,
    chunk: int | None,
    activations: int = 0,
) -> int:
    """K: `chunk`, or what fits `SHARE` of free memory; never more than the largest cohort."""
    each = bytes_per_client(layout, algorithm) + activations
    fits = int(SHARE * free_bytes(device)) // each
    return max(1, min(schedule.largest_cohort, fits if chunk is None else chunk))
