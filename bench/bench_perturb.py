"""`perturb`: SAM and ASAM against foreach code and against the usual per-tensor optimizer."""

from __future__ import annotations

from typing import Any

import torch
from buffers import SEGMENTS, bank, models
from fedfast.kernels import perturb
from marks import ONE_AND_TWO_THREADS, beside

pytestmark = ONE_AND_TWO_THREADS

RHO, ETA = 0.05, 0.01


def norm(lists: list[torch.Tensor]) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(lists)))


@beside("foreach", "per_tensor")
def test_sam(contest: Any) -> None:
    w, g, out, ws, gs, outs = bank(), bank(), bank(), models(), models(), models()

    def foreach() -> None:
        for weights, grads, results in zip(ws, gs, outs, strict=True):
            torch._foreach_copy_(results, weights)
            torch._foreach_add_(results, grads, alpha=RHO / (norm(grads).item() + 1e-12))

    def per_tensor() -> None:  # as the common SAM optimizer: keep the old weights, move in place
        for weights, grads in zip(ws, gs, strict=True):
            scale = RHO / (torch.stack([d.norm(p=2) for d in grads]).norm(p=2) + 1e-12)
            old = [p.clone() for p in weights]
            for p, d in zip(weights, grads, strict=True):
                p.add_(d * scale.to(p))
            del old

    contest(
        "perturb sam",
        16,
        fedfast=lambda: perturb(w, g, RHO, out=out),
        foreach=foreach,
        per_tensor=per_tensor,
    )


@beside("foreach")
def test_sam_norm_known(contest: Any) -> None:
    w, g, out, ws, gs, outs = bank(), bank(), bank(), models(), models(), models()
    known = torch.ones(len(ws))

    def foreach() -> None:
        for weights, grads, results in zip(ws, gs, outs, strict=True):
            torch._foreach_copy_(results, weights)
            torch._foreach_add_(results, grads, alpha=RHO)

    contest(
        "perturb sam-norm-known",
        12,
        fedfast=lambda: perturb(w, g, RHO, out=out, norm=known),
        foreach=foreach,
    )


@beside("foreach")
def test_asam(contest: Any) -> None:
    w, g, out, ws, gs, outs = bank(), bank(), bank(), models(), models(), models()

    def foreach() -> None:
        for weights, grads, results in zip(ws, gs, outs, strict=True):
            stretch = torch._foreach_abs(weights)
            torch._foreach_add_(stretch, ETA)
            torch._foreach_mul_(grads, stretch)
            scale = RHO / (norm(grads).item() + 1e-12)
            torch._foreach_mul_(grads, stretch)
            torch._foreach_copy_(results, weights)
            torch._foreach_add_(results, grads, alpha=scale)
            for d in grads:
                d.clamp_(-1, 1)  # they are consumed; keep them finite for the next round

    def fedfast() -> None:
        perturb(w, g, RHO, out=out, adaptive=ETA, segments=SEGMENTS)

    contest("perturb asam", 20, fedfast=fedfast, foreach=foreach)
