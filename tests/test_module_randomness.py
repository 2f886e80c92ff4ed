"""Modules that draw from NumPy's or Python's generators train as keyed by the run's seed."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from federation import federation, final
from torch import nn


class Noisy(nn.Module):
    """Adds noise of one generator, in training only."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.layer = source, nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.layer(x)
        draw = {"numpy": np.random.rand, "python": random.random, "torch": lambda: torch.rand(())}
        return self.layer(x + float(draw[self.source]()))


def weights(source: str, chunk: int | None) -> torch.Tensor:
    torch.manual_seed(0)
    options = dict(rounds=3, participation=1.0, batch_size=4, chunk=chunk, seed=5)
    return final(Noisy(source), federation([6, 4, 9]), **options)


@pytest.mark.parametrize("source", ["numpy", "python", "torch"])
def test_their_noise_is_the_runs_own(source: str) -> None:
    """Whatever the user drew before, and however clients share buffers; nothing is drawn of his."""
    np.random.seed(1)
    random.seed(1)
    first = weights(source, None)
    np.random.seed(2)
    random.seed(2)
    left = np.random.get_state()[1].copy(), random.getstate()
    assert torch.equal(weights(source, 1), first)
    assert np.array_equal(np.random.get_state()[1], left[0]) and random.getstate() == left[1]
