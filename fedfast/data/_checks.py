"""Checks of the arguments that partitions share."""

from __future__ import annotations

from math import isfinite

import numpy as np

from .._messages import format_value
from ..random import check_seed
from ..validation.values import integer
from .samples import Samples, as_samples
from .size_limits import check_table


def checked_samples(
    samples: object, clients: int, seed: int
) -> tuple[Samples, np.random.Generator]:
    """The checked samples, and the generator of this seed.

    Raises ValueError for more clients than samples, and for labels whose tables would be too large.
    """
    checked = as_samples(samples, "samples")
    integer("clients", clients)
    if not 1 <= clients <= len(checked):
        raise ValueError(
            f"clients: expected 1 <= clients <= {len(checked)} samples; got {format_value(clients)}"
        )
    check_table("samples.y", int(clients), int(checked.y.max()))
    return checked, np.random.Generator(np.random.Philox(check_seed(seed)))


def check_number(name: str, value: object, above: bool = False) -> None:
    """TypeError unless it is a number, ValueError unless finite and >= 0, or > 0 with `above`."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected a number; got {format_value(value)}")
    if isinstance(value, int) and value.bit_length() > 62:
        raise ValueError(f"{name}: expected a number below 2^62; got {format_value(value)}")
    number, relation = float(value), ">" if above else ">="
    if not isfinite(number) or number < 0 or (above and number == 0):
        raise ValueError(
            f"{name}: expected a finite number {relation} 0; got {format_value(value)}"
        )


def labels_of(samples: Samples) -> np.ndarray:
    """[n] int64. ValueError where targets are no class labels."""
    if samples.y.ndim != 1:
        raise ValueError(
            f"samples.y: expected class labels [n] to partition by; "
            f"got targets {list(samples.y.shape)}"
        )
    return samples.y.cpu().numpy()


def check_classes_per_client(present: int, classes: int) -> None:
    """ValueError unless so many classes can be chosen; TypeError unless it is an integer."""
    integer("classes_per_client", classes)
    if not 1 <= classes <= present:
        raise ValueError(
            f"classes_per_client: expected 1 to {present} classes; got {format_value(classes)}"
        )
