"""`sensitivity`: mean squared changes of every layer, plain and normalised by extents."""

from __future__ import annotations

from typing import Any

import torch
from buffers import SEGMENTS, S, bank, models, tensors
from fedfast.kernels import sensitivity
from marks import ONE_AND_TWO_THREADS, beside

pytestmark = ONE_AND_TWO_THREADS


def unit(v: torch.Tensor) -> torch.Tensor:
    low, high = v.aminmax()
    return (v - low) / (high - low)


@beside("foreach", "per_tensor")
def test_plain(contest: Any) -> None:
    """From a row that all clients share."""
    x, start, xs, starts = bank(), bank(S), models(), tensors()

    def foreach() -> None:
        for a in xs:
            torch._foreach_norm(torch._foreach_sub(a, starts))

    def per_tensor() -> None:
        for a in xs:
            for p, q in zip(a, starts, strict=True):
                (p - q).square().mean()

    def fedfast() -> None:
        sensitivity(x, start, SEGMENTS, normalize=False)

    contest("sensitivity plain", 4, fedfast=fedfast, foreach=foreach, per_tensor=per_tensor)


@beside("per_tensor")
def test_normalized(contest: Any) -> None:
    """The same; foreach has no extents."""
    x, start, xs, starts = bank(), bank(S), models(), tensors()

    def per_tensor() -> None:
        for a in xs:
            for p, q in zip(a, starts, strict=True):
                (unit(p) - unit(q)).square().mean()

    def fedfast() -> None:
        sensitivity(x, start, SEGMENTS, normalize=True)

    contest("sensitivity normalized", 8, fedfast=fedfast, per_tensor=per_tensor)
