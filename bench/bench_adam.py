"""`adam`: one pass over w, g, m and v, beside torch's own fused kernel."""

from __future__ import annotations

from typing import Any

import torch
from buffers import bank, models
from fedfast.kernels import adam
from marks import ONE_AND_TWO_THREADS, beside

pytestmark = ONE_AND_TWO_THREADS


@beside("torch fused")
def test_adam(contest: Any) -> None:
    w, g, m, v = bank(), bank(), torch.zeros_like(bank()), torch.zeros_like(bank())
    parameters = [p.requires_grad_() for model in models() for p in model]
    for p, gradient in zip(parameters, sum(models(), []), strict=True):
        p.grad = gradient
    fused = torch.optim.Adam(parameters, fused=True)
    action = {"torch fused": fused.step}
    contest("adam", 28, fedfast=lambda: adam(w, g, m, v, 3.0, 1e-3, out=w), **action)
