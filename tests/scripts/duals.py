"""FedDyn, FedSpeed, FedSMOO: clients with a dual of their own."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from .gradients import Gradient, plain
from .run import Run, gradient, total
from .servers import Rule, average


def feddyn(
    run: Run,
    lam: float,
    clip: str = "linear",
    grad_at: Gradient = plain,
    rule: Rule | None = None,
    own: dict[int, Tensor] | None = None,
) -> Tensor:
    """The paper's form, with dual_i = its lambda_i and H. own: filled with -dual_i / lam"""
    w, H, path, rule = run.w0, torch.zeros_like(run.w0), [], rule or average(run)
    dual = defaultdict(lambda: torch.zeros_like(run.w0))
    for t, cohort in enumerate(run.cohorts):
        D = []
        for k in cohort:
            v = w
            for x, y in run.batches(t, k):
                v = run.pulled(v, grad_at(v, x, y) - dual[k], t, w, lam, clip)
            dual[k] = dual[k] - lam * (v - w)
            D.append(v - w)
        H = H - lam * sum(D) / len(run.data)
        w = w + rule(D, run.shares(t), t) - H / lam
        path.append(w)
    if own is not None:
        own |= {k: -d / lam for k, d in dual.items()}
    return torch.stack(path)


def fedspeed(run: Run, rho: float, lam: float, alpha: float, eps: float) -> Tensor:
    """Algorithm 1; `lam` is one over its lambda. It takes the mean over S of what was sent."""
    w, path = run.w0, []
    ghat = defaultdict(lambda: torch.zeros_like(run.w0))
    for t, cohort in enumerate(run.cohorts):
        moved, amended = [], []
        for k in cohort:
            v = w
            for x, y in run.batches(t, k):
                g1 = gradient(v, x, y)
                g2 = gradient(v + rho * g1 / (g1.norm() + eps), x, y)
                g = (1 - alpha) * g1 + alpha * g2
                v = run.pulled(v, g - ghat[k], t, w, lam, "linear")
            ghat[k] = ghat[k] - lam * (v - w)
            moved.append(v - w)
            amended.append(ghat[k] / lam)
        ps = run.shares(t)
        w = w + run.server_lr * total(ps, moved) - total(ps, amended)
        path.append(w)
    return torch.stack(path)


def fedsmoo(run: Run, rho: float, lam: float, eps: float, official: bool = False) -> Tensor:
    zero = torch.zeros_like(run.w0)
    w, s, path = run.w0, zero, []
    mu, h = defaultdict(lambda: zero), defaultdict(lambda: zero)
    for t, cohort in enumerate(run.cohorts):
        D, A = [], []
        for k in cohort:
            v = w
            for x, y in run.batches(t, k):
                q = gradient(v, x, y) - mu[k] - s
                e = rho * q / (q.norm() + eps)
                mu[k] = mu[k] + e - s
                d = gradient(v + e, x, y) + lam * h[k]
                v = run.pulled(v, d, t, w, lam, "linear")
            h[k] = h[k] + (v - w)
            D.append(v - w)
            A.append(mu[k] if official else mu[k] - e)
        w = w + run.server_lr * total(run.shares(t), D) + sum(h.values()) / len(run.data)
        mean = sum(A) / len(A)
        s = rho * mean / (mean.norm() + eps)
        path.append(w)
    return torch.stack(path)
