"""The user's random generators, left as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def states() -> list[Any]:
    """Of torch's generators, NumPy's and Python's."""
    gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), gpu, np.random.get_state(), random.getstate()]


def same(a: list[Any], b: list[Any]) -> bool:
    """Whether nothing was drawn from a to b."""
    return (
        torch.equal(a[0], b[0])
        and all(torch.equal(s, t) for s, t in zip(a[1], b[1], strict=False))
        and all(np.array_equal(s, t) for s, t in zip(a[2], b[2], strict=True))
        and a[3] == b[3]
    )


def restore(kept: list[Any]) -> None:
    """Put the generators back to `states()`."""
    torch.set_rng_state(kept[0])
    if kept[1]:
        torch.cuda.set_rng_state_all(kept[1])
    np.random.set_state(kept[2])
    random.setstate(kept[3])


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Whatever is drawn inside leaves no trace outside."""
    kept = states()
    try:
        yield
    finally:
        restore(kept)


def seed_all(seed: int) -> None:
    """One seed for every generator that a module may draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)
