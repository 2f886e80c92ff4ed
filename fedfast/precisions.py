"""`precision`: how far a GPU may round float32 products; which word is in force where.

The words beside "auto" are those of `fedfast.kernels`. Imports nothing heavy, see `local_options`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CHOICES = ("auto", "fp32", "tf32x3", "tf32", "bf16")
FLOAT32 = ("fp32", "tf32x3")  # whose results are float32's, up to the rounding of its own sums


def chosen(precision: str, device: torch.device) -> str:
    """What "auto" is on a device; other words are what they are.

    On CUDA "tf32x3", which multiplies on tensor cores (docs/gpu.md has its errors); "fp32" on a
    CPU, which rounds no products.
    """
    if precision != "auto":
        return precision
    return "tf32x3" if device.type == "cuda" else "fp32"


def meaning(precision: str) -> str:
    """What results are: "float32", which is none of the words, for "auto" and `FLOAT32`."""
    return "float32" if precision == "auto" or precision in FLOAT32 else precision


def alike(a: str, b: str) -> bool:
    """Whether a run under one word may go on under the other, here or on another device."""
    return meaning(a) == meaning(b)
