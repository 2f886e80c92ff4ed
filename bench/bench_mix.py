"""`mix`: a linear combination of two banks."""

from __future__ import annotations

from typing import Any

import torch
from buffers import bank, models
from fedfast.kernels import mix
from marks import ONE_AND_TWO_THREADS, beside

pytestmark = ONE_AND_TWO_THREADS


@beside("foreach")
def test_mix(contest: Any) -> None:
    x, y, out, xs, ys = bank(), bank(), bank(), models(), models()

    def foreach() -> None:
        for a, b in zip(xs, ys, strict=True):
            torch._foreach_add_(torch._foreach_mul(a, 0.25), b, alpha=0.75)

    contest("mix two-banks", 12, fedfast=lambda: mix(x, y, 0.25, 0.75, out=out), foreach=foreach)
