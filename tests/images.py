"""What the tests of the operations on images share: drawn banks, tolerances, company, threads."""

from __future__ import annotations

import pytest
import torch
from layer_cases import TOLERANCE
from torch import Tensor

every_voice = pytest.mark.parametrize("voice", ("native", "reference"))
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=("float32", "float64"))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(random: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers, equal in both dtypes up to rounding."""
    return torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)


def in_rows(value: Tensor, gap: int = 5) -> Tensor:
    """The same numbers as views of flat rows with other things between the clients."""
    clients, size = value.shape[0], value[0].numel()
    rows = torch.full((clients, size + gap), float("nan"), dtype=value.dtype)
    view = rows[:, 1 : 1 + size].view(value.shape)
    return view.copy_(value)


def poison(*shape: int, dtype: torch.dtype) -> Tensor:
    """A bank of NaN with NaN between the clients."""
    return in_rows(torch.full(shape, float("nan"), dtype=dtype))


def close(found: Tensor, expected: Tensor) -> None:
    """Each client's error is at most the tolerance of `found`'s dtype times the expected norm."""
    assert found.shape == expected.shape
    error = (found.double() - expected.double()).flatten(1).norm(dim=1)
    bound = TOLERANCE[found.dtype] * expected.double().flatten(1).norm(dim=1) + 1e-30
    assert (error <= bound).all(), f"{(error / bound).max():.3g} of the tolerance"
