"""FedGloSS and NaiveFedGloSS in the paper's own letters, and the official code's habits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from .run import Run, gradient, total

Radius = Callable[[int], float]


def fedgloss(
    run: Run, rho: Radius, beta: float, rho_l: Radius | None = None, official: bool = False
) -> Tensor:
    """rho_l: None for SGD clients. official: anchor and sigma_k per epoch, sigma over |S| too"""
    zero = torch.zeros_like(run.w0)
    w, sigma, delta, path = run.w0, zero, zero, []
    sigma_of = defaultdict(lambda: zero)
    for t, cohort in enumerate(run.cohorts):
        sent = w + (rho(t) * delta / delta.norm() if t else 0)
        models = []
        for k in cohort:
            v, sigma_of[k] = _client(run, t, k, sent, sigma_of[k], beta, rho_l, official)
            models.append(v)
        moved = sum(v - sent for v in models) / (beta * len(run.data))
        sigma = sigma - moved / (len(cohort) if official else 1)
        delta = total(run.shares(t), [sent - v for v in models])
        w = w - run.server_lr * delta - beta * sigma
        path.append(w)
    return torch.stack(path)


def naive(run: Run, rho: Radius, beta: float, rho_l: Radius | None = None) -> Tensor:
    """Two exchanges per round; the first keeps no dual and sees the same batches here."""
    zero = torch.zeros_like(run.w0)
    w, sigma, path = run.w0, zero, []
    sigma_of = defaultdict(lambda: zero)
    for t, cohort in enumerate(run.cohorts):
        ps = run.shares(t)

        first = [_client(run, t, k, w, sigma_of[k], beta, rho_l, False) for k in cohort]
        delta = total(ps, [w - v for v, _ in first])
        sent = w + rho(t) * delta / delta.norm()
        found = [_client(run, t, k, sent, sigma_of[k], beta, rho_l, False) for k in cohort]
        sigma_of |= {k: s for k, (_, s) in zip(cohort, found, strict=True)}
        sigma = sigma - sum(v - sent for v, _ in found) / (beta * len(run.data))
        w = w - run.server_lr * total(ps, [sent - v for v, _ in found]) - beta * sigma
        path.append(w)
    return torch.stack(path)


def _client(
    run: Run,
    t: int,
    k: int,
    sent: Tensor,
    sigma: Tensor,
    beta: float,
    rho_l: Radius | None,
    official: bool,
) -> tuple[Tensor, Tensor]:
    """(v_K, sigma_k)"""
    v = anchor = sent
    epochs = run.by_epoch(t, k)
    for epoch in epochs if official else [[b for e in epochs for b in e]]:
        for x, y in epoch:
            g = gradient(v, x, y)
            g = g if rho_l is None else gradient(v + rho_l(t) * g / g.norm(), x, y)
            v = run.step(v, g - sigma + (v - anchor) / beta, t)
        sigma, anchor = sigma - (v - anchor) / beta, v
    return v, sigma
