"""`stats`: norms, cosines and disagreement of two banks, layer by layer, in one pass."""

from __future__ import annotations

from typing import Any

import torch
from buffers import SEGMENTS, S, bank, models, tensors
from fedfast.kernels import stats
from marks import ONE_AND_TWO_THREADS, beside

pytestmark = ONE_AND_TWO_THREADS


def sums(a: list[torch.Tensor], b: list[torch.Tensor]) -> list[torch.Tensor]:
    """The four sums of a layer in float32; non-finite elements are not counted."""
    flat = [(x.view(-1), y.view(-1)) for x, y in zip(a, b, strict=True)]
    dots = [d for x, y in flat for d in (torch.dot(x, x), torch.dot(x, y), torch.dot(y, y))]
    return [*dots, *torch._foreach_norm(torch._foreach_mul(a, b), 1)]


@beside("foreach", "per_tensor")
def test_pairs(contest: Any) -> None:
    x, y, xs, ys = bank(), bank(), models(), models()

    def foreach() -> None:
        for a, b in zip(xs, ys, strict=True):
            sums(a, b)

    def per_tensor() -> None:
        for a, b in zip(xs, ys, strict=True):
            for p, q in zip(a, b, strict=True):
                _ = (p * p).sum(), (p * q).sum(), (q * q).sum(), (p * q).abs().sum()

    contest(
        "stats pairs",
        8,
        fedfast=lambda: stats(x, y, segments=SEGMENTS),
        foreach=foreach,
        per_tensor=per_tensor,
    )


@beside("foreach")
def test_updates(contest: Any) -> None:
    x, y, start = bank(), bank(), bank(S)
    xs, ys, starts = models(), models(), tensors()

    def foreach() -> None:
        for a, b in zip(xs, ys, strict=True):
            sums(torch._foreach_sub(a, starts), torch._foreach_sub(b, starts))

    def fedfast() -> None:
        stats(x, y, x_ref=start, y_ref=start, segments=SEGMENTS)

    contest("stats pairs-of-updates", 8, fedfast=fedfast, foreach=foreach)


@beside("foreach")
def test_norms(contest: Any) -> None:
    x, xs = bank(), models()

    def foreach() -> None:
        for a in xs:
            torch._foreach_norm(a)

    contest("stats norms", 4, fedfast=lambda: stats(x, segments=SEGMENTS), foreach=foreach)
