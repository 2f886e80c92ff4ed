"""`step`: SGD, SCAFFOLD, FedDyn, clipping and momentum against foreach code that steps in place."""

from __future__ import annotations

from typing import Any

import torch
from buffers import S, bank, models, tensors
from fedfast.kernels import step
from marks import ONE_AND_TWO_THREADS, beside

pytestmark = ONE_AND_TWO_THREADS

LR, DECAY, LAM, CLIP = 1e-6, 1e-4, 1e-3, 10.0


@beside("foreach", "per_tensor")
def test_sgd(contest: Any) -> None:
    w, g, ws, gs = bank(), bank(), models(), models()

    def foreach() -> None:
        for weights, grads in zip(ws, gs, strict=True):
            torch._foreach_add_(weights, grads, alpha=-LR)

    def per_tensor() -> None:
        for weights, grads in zip(ws, gs, strict=True):
            for p, d in zip(weights, grads, strict=True):
                p.sub_(LR * d)

    contest("step sgd", 12, fedfast=lambda: step(w, g, LR), foreach=foreach, per_tensor=per_tensor)


@beside("foreach", "per_tensor")
def test_sgd_decay(contest: Any) -> None:
    w, g, ws, gs = bank(), bank(), models(), models()

    def foreach() -> None:  # as torch.optim.SGD(foreach=True)
        for weights, grads in zip(ws, gs, strict=True):
            decayed = torch._foreach_add(grads, weights, alpha=DECAY)
            torch._foreach_add_(weights, decayed, alpha=-LR)

    def per_tensor() -> None:
        for weights, grads in zip(ws, gs, strict=True):
            for p, d in zip(weights, grads, strict=True):
                p.add_(d.add(p, alpha=DECAY), alpha=-LR)

    contest(
        "step sgd-decay",
        12,
        fedfast=lambda: step(w, g, LR, weight_decay=DECAY),
        foreach=foreach,
        per_tensor=per_tensor,
    )


@beside("foreach", "per_tensor")
def test_scaffold(contest: Any) -> None:
    w, g, own, c = bank(), bank(), bank(), bank(S)
    ws, gs, owns, cs = models(), models(), models(), tensors()

    def foreach() -> None:
        for weights, grads, mine in zip(ws, gs, owns, strict=True):
            torch._foreach_add_(grads, cs)
            torch._foreach_sub_(grads, mine)
            torch._foreach_add_(grads, weights, alpha=DECAY)
            torch._foreach_add_(weights, grads, alpha=-LR)

    def per_tensor() -> None:
        for weights, grads, mine in zip(ws, gs, owns, strict=True):
            for p, d, a, b in zip(weights, grads, cs, mine, strict=True):
                p.sub_(LR * (d + a - b + DECAY * p))

    def fedfast() -> None:
        step(w, [g, c, (own, -1.0)], LR, weight_decay=DECAY)

    contest("step scaffold", 16, fedfast=fedfast, foreach=foreach, per_tensor=per_tensor)


@beside("foreach", "per_tensor")
def test_feddyn(contest: Any) -> None:
    w, g, h, start = bank(), bank(), bank(), bank(S)
    ws, gs, hs, starts = models(), models(), models(), tensors()

    def foreach() -> None:
        for weights, grads, dual in zip(ws, gs, hs, strict=True):
            torch._foreach_sub_(grads, dual)
            torch._foreach_add_(grads, weights, alpha=LAM + DECAY)
            torch._foreach_add_(grads, starts, alpha=-LAM)
            torch._foreach_add_(weights, grads, alpha=-LR)

    def per_tensor() -> None:
        for weights, grads, dual in zip(ws, gs, hs, strict=True):
            for p, d, a, s in zip(weights, grads, dual, starts, strict=True):
                p.sub_(LR * (d - a + LAM * (p - s) + DECAY * p))

    def fedfast() -> None:
        step(w, [g, (h, -1.0)], LR, w_ref=start, lam=LAM, weight_decay=DECAY)

    contest("step feddyn", 16, fedfast=fedfast, foreach=foreach, per_tensor=per_tensor)


@beside("foreach")
def test_clip(contest: Any) -> None:
    w, g, ws, gs = bank(), bank(), models(), models()

    def foreach() -> None:  # as torch.nn.utils.clip_grad_norm_, then SGD with weight decay
        for weights, grads in zip(ws, gs, strict=True):
            total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
            torch._foreach_mul_(grads, (CLIP / (total + 1e-6)).clamp(max=1.0))
            torch._foreach_add_(grads, weights, alpha=DECAY)
            torch._foreach_add_(weights, grads, alpha=-LR)

    def fedfast() -> None:
        step(w, g, LR, clip_norm=CLIP, weight_decay=DECAY)

    contest("step clip-decay", 16, fedfast=fedfast, foreach=foreach)


@beside("foreach")
def test_momentum(contest: Any) -> None:
    w, g, m, ws, gs, ms = bank(), bank(), bank(), models(), models(), models()

    def foreach() -> None:  # as torch.optim.SGD(foreach=True)
        for weights, grads, moments in zip(ws, gs, ms, strict=True):
            decayed = torch._foreach_add(grads, weights, alpha=DECAY)
            torch._foreach_mul_(moments, 0.9)
            torch._foreach_add_(moments, decayed)
            torch._foreach_add_(weights, moments, alpha=-LR)

    def fedfast() -> None:
        step(w, g, LR, momentum=0.9, m=m, weight_decay=DECAY)

    contest("step momentum-decay", 20, fedfast=fedfast, foreach=foreach)
