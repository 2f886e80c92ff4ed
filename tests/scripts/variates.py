"""SCAFFOLD (options I, II, modified), FedGAMMA, FedLESAM-S and FedWMSAM: control variates."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from .gradients import Gradient, plain
from .run import Run, gradient, total
from .servers import Rule, average


def scaffold(
    run: Run,
    option: str = "II",
    modified: bool = False,
    grad_at: Gradient = plain,
    rule: Rule | None = None,
    own: dict[int, Tensor] | None = None,
) -> Tensor:
    """own: filled with every client's c_i"""
    w, c, path, rule = run.w0, torch.zeros_like(run.w0), [], rule or average(run)
    c_of = defaultdict(lambda: torch.zeros_like(run.w0))
    for t, cohort in enumerate(run.cohorts):
        D, change = [], []
        for k in cohort:
            v, batches, old = w, run.batches(t, k), c if modified else c_of[k]
            for x, y in batches:
                v = run.step(v, grad_at(v, x, y) + c - old, t)
            new = old - c + (w - v) / (len(batches) * run.eta(t))
            c_of[k] = gradient(w, *run.data[k]) if option == "I" else new
            change.append(c_of[k] - old)
            D.append(v - w)
        w, c = w + rule(D, run.shares(t), t), c + sum(change) / len(run.data)
        path.append(w)
    if own is not None:
        own |= c_of
    return torch.stack(path)


def fedwmsam(
    run: Run, rho: float, alpha: float, lam: float, eps: float, official: bool = False
) -> Tensor:
    zero = torch.zeros_like(run.w0)
    w, M, c, path = run.w0, zero, zero, []
    c_of = defaultdict(lambda: zero)
    for t, cohort in enumerate(run.cohorts):
        eta, D, means, change, apart = run.eta(t), [], [], [], []
        for k in cohort:
            v, batches = w, run.batches(t, k)
            delta_k = M + (c - c_of[k]) * alpha / (1 - alpha)
            for b, (x, y) in enumerate(batches):
                target = w + b * delta_k if official else w - eta * b * delta_k
                e = (target - v) * (-1 if official else 1)
                g = gradient(v + rho * e / (e.norm() + eps), x, y)
                v = run.step(v, alpha * g + (1 - alpha) * delta_k, t)
            new = c_of[k] - c + (w - v) / (len(batches) * eta)
            change.append(new - c_of[k])
            c_of[k] = new
            D.append(v - w)
            means.append((w - v) / (len(batches) * eta))
            apart.append(_disagreement(v - w, M))
        clipped = min(max(sum(apart) / len(apart), 0.1), 0.9)
        alpha = (1 - lam) * alpha + lam * clipped
        M = total(run.shares(t), means) * (run.lr_decay if official else 1)
        w, c = w + run.server_lr * total(run.shares(t), D), c + sum(change) / len(run.data)
        path.append(w)
    return torch.stack(path)


def _disagreement(D: Tensor, M: Tensor) -> float:
    norms = float(D.norm() * M.norm())
    return 1 + float(D @ M) / norms if norms else 0.0
