"""`sensitivity`: mean squared changes of every layer, plain and normalised by extents."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedfast.kernels import sensitivity
from harness import SEGMENTS, bank, models, tensors


def unit(v: torch.Tensor) -> torch.Tensor:
    low, high = v.aminmax()
    return (v - low) / (high - low)


@pytest.mark.parametrize("normalize", [False, True], ids=("plain", "normalized"))
def test_changes(compare: Any, normalize: bool) -> None:
    """From a row that all clients share; foreach has no extents, so its passes are per tensor."""
    x, start, xs, starts = bank(), bank(bank().shape[1]), models(), tensors()

    def foreach() -> None:
        for a in xs:
            change = torch._foreach_sub(a, starts)
            torch._foreach_norm(change)

    def per_tensor() -> None:
        for a in xs:
            for p, q in zip(a, starts, strict=True):
                (unit(p) - unit(q) if normalize else p - q).square().mean()

    def native() -> None:
        sensitivity(x, start, SEGMENTS, normalize=normalize)

    form = "normalized" if normalize else "plain"
    size = 8 if normalize else 4
    compare("sensitivity", form, size, native, per_tensor if normalize else foreach, per_tensor)
