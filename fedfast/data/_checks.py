"""What every partition asks of its arguments."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from ..random import check_seed
from .samples import Samples, as_samples


def start(samples: Any, clients: int, seed: int) -> tuple[Samples, np.random.Generator]:
    """The checked samples, and the generator of this seed."""
    bank = as_samples(samples, "samples")
    if not 1 <= clients <= len(bank):
        raise ValueError(f"clients: expected 1 <= clients <= {len(bank)} samples; got {clients}")
    return bank, np.random.Generator(np.random.Philox(check_seed(seed)))


def labels_of(bank: Samples) -> np.ndarray:
    """[n] int64. ValueError where targets are no class labels."""
    if bank.y.ndim != 1:
        raise ValueError(
            f"samples.y: expected class labels [n] to deal by; got targets {list(bank.y.shape)}"
        )
    return bank.y.cpu().numpy()


def positive(name: str, value: float) -> None:
    """ValueError unless it is finite and above 0."""
    if not isfinite(value) or value <= 0:
        raise ValueError(f"{name}: expected a finite number > 0; got {value}")


def at_least_zero(name: str, value: float) -> None:
    """ValueError unless it is finite and not below 0."""
    if not isfinite(value) or value < 0:
        raise ValueError(f"{name}: expected a finite number >= 0; got {value}")


def some_of(present: int, classes: int) -> None:
    """ValueError unless so many classes can be chosen."""
    if not 1 <= classes <= present:
        raise ValueError(f"classes_per_client: expected 1 to {present} classes; got {classes}")
