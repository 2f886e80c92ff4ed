"""Copies from host to device that nobody waits for."""

from __future__ import annotations

import torch
from torch import Tensor


def staged(t: Tensor, device: torch.device) -> Tensor:
    """`t`, in memory that `device` copies from while the host goes on."""
    return t if device.type == "cpu" or t.device.type != "cpu" else t.pin_memory()


def sent_to(t: Tensor, device: torch.device) -> Tensor:
    """`t` on the device; the host does not wait until it is there."""
    return t if t.device == device else staged(t, device).to(device, non_blocking=True)
