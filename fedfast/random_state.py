"""The user's random generators, left as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class States(NamedTuple):
    """Of torch's generators (the CPU's, each GPU's), NumPy's and Python's."""

    torch: Tensor
    gpu: list[Tensor]
    numpy: dict[str, object] | tuple[str, np.ndarray, int, int, float]
    python: tuple[object, ...]


def states() -> States:
    """The generators' states now."""
    gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return States(torch.get_rng_state(), gpu, np.random.get_state(), random.getstate())


def same(a: States, b: States) -> bool:
    """Whether nothing was drawn from a to b."""
    return (
        torch.equal(a.torch, b.torch)
        and all(torch.equal(s, t) for s, t in zip(a.gpu, b.gpu, strict=False))
        and all(
            np.array_equal(np.asarray(s), np.asarray(t))
            for s, t in zip(a.numpy, b.numpy, strict=True)
        )
        and a.python == b.python
    )


def restore(kept: States) -> None:
    """Put the generators back to `states()`."""
    torch.set_rng_state(kept.torch)
    if kept.gpu:
        torch.cuda.set_rng_state_all(kept.gpu)
    np.random.set_state(kept.numpy)
    random.setstate(kept.python)


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
