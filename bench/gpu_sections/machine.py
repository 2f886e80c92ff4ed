"""Section `machine`: versions, and what was built."""

from __future__ import annotations

import platform
import shutil
import subprocess
from datetime import datetime, timezone
from importlib.util import find_spec

import torch
from result_files import commit, processor

from gpu_sections.campaign import Campaign


def stamp(device: torch.device) -> dict[str, str]:
    """The first columns of every row."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "torch": torch.__version__,
        "triton": triton_version(),
    }


def triton_version() -> str:
    """Of the Triton that is installed."""
    import triton

    return str(triton.__version__)


def run(campaign: Campaign) -> None:
    """Versions; properties of the device; compiled modules."""
    campaign.row("python", "version", platform.python_version())
    campaign.row("cuda", "version", torch.version.cuda or "none")
    campaign.row("nvcc", "version", _last_line(["nvcc", "--version"]))
    campaign.row(
        "driver",
        "version",
        _last_line(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]),
    )
    for module in ("_fedfast", "_fedfast_cuda"):
        found = find_spec(f"fedfast.{module}") is not None
        campaign.row(module, "built", "yes" if found else "no", headline=True)
    if not campaign.timed:
        return
    about = torch.cuda.get_device_properties(campaign.device)
    campaign.row("device", "multiprocessors", float(about.multi_processor_count))
    campaign.row("device", "memory", about.total_memory / 2**30, "GiB")
    campaign.row("device", "second cache", about.L2_cache_size / 2**20, "MiB")
    campaign.row("device", "capability", float(f"{about.major}.{about.minor}"))


def _last_line(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return "none"
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout.strip().splitlines() or ["none"])[-1]
