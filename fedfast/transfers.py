"""Copies between host and device: to it without a wait, from it one wait for many numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def staged(t: Tensor, device: torch.device) -> Tensor:
    """`t`, in memory that `device` copies from while the host goes on."""
    return t if device.type == "cpu" or t.device.type != "cpu" else t.pin_memory()


def sent_to(t: Tensor, device: torch.device) -> Tensor:
    """`t` on the device; the host does not wait until it is there."""
    return t if t.device == device else staged(t, device).to(device, non_blocking=True)


def all_sent_to(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors [C] of one dtype, in one copy."""
    if device.type == "cpu" or not tensors:
        return tensors
    return list(sent_to(torch.stack(tensors), device).unbind())


def numbers_of(*values: Tensor) -> list[float]:
    """Tensors of one element each as numbers: the host waits once for all of them."""
    if values[0].device.type == "cpu":
        return [float(value) for value in values]
    found: list[float] = torch.stack([value.double().view(()) for value in values]).tolist()
    return found


def arrays_of(*values: Tensor) -> list[np.ndarray]:
    """Tensors of any shapes as arrays in float64, copies: the host waits once for all of them."""
    values = tuple(value.detach() for value in values)
    there = iter(_arrays_of_device([value for value in values if value.device.type != "cpu"]))
    near = (value.double().numpy().copy() for value in values if value.device.type == "cpu")
    return [next(near if value.device.type == "cpu" else there) for value in values]


def _arrays_of_device(values: list[Tensor]) -> list[np.ndarray]:
    if not values:
        return []
    flat = torch.cat([value.double().reshape(-1) for value in values]).cpu().numpy()
    parts = np.split(flat, np.cumsum([value.numel() for value in values])[:-1])
    return [part.reshape(value.shape) for part, value in zip(parts, values, strict=True)]
