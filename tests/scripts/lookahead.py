"""FedLESAM, -S, -D; FedNSAM and its form with one gradient; FedFSA."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from .run import SPANS, Run, gradient, total


def fedlesam(run: Run, rho: float, eps: float, kind: str = "", lam: float = 0.1) -> Tensor:
    """kind: "" as FedAvg, "S" with control variates, "D" with FedDyn's duals"""
    zero = torch.zeros_like(run.w0)
    w, c, path, received = run.w0, zero, [], {}
    c_of, h = defaultdict(lambda: zero), defaultdict(lambda: zero)
    for t, cohort in enumerate(run.cohorts):
        D, change = [], []
        for k in cohort:
            back = received.get(k, w) - w
            v, e, batches = w, rho * back / (back.norm() + eps), run.batches(t, k)
            for x, y in batches:
                g = gradient(v + e, x, y)
                if kind == "D":
                    v = run.pulled(v, g + lam * h[k], t, w, lam, "linear")
                else:
                    v = run.step(v, g + (c - c_of[k] if kind == "S" else 0), t)
            new = c_of[k] - c + (w - v) / (len(batches) * run.eta(t))
            change.append(new - c_of[k])
            c_of[k], h[k], received[k] = new, h[k] + (v - w), w
            D.append(v - w)
        w = w + run.server_lr * total(run.shares(t), D)
        w = w + sum(h.values()) / len(run.data) if kind == "D" else w
        c = c + sum(change) / len(run.data)
        path.append(w)
    return torch.stack(path)


def fednsam(run: Run, gamma: float, rho: float, eps: float, single: bool = False) -> Tensor:
    w, m, path = run.w0, torch.zeros_like(run.w0), []
    for t, cohort in enumerate(run.cohorts):
        y0, D = (w if single else w + gamma * m), []
        for k in cohort:
            v = y0
            for x, y in run.batches(t, k):
                g = gradient(v, x, y)
                e = gamma * m if single else rho * g / (g.norm() + eps)
                v = run.step(v, gradient(v + e, x, y), t)
            D.append(v - y0)
        m = gamma * m + total(run.shares(t), D)
        w = w + run.server_lr * m
        path.append(w)
    return torch.stack(path)


Select = Callable[[int, int, dict[str, float]], list[str]]


def fedfsa(
    run: Run, rho_default: float, rho_larger: float, alpha: float, eps: float, select: Select
) -> Tensor:
    """select: (round, client, score of each weight tensor) -> names of its next Top list"""
    w, m, path, top = run.w0, torch.zeros_like(run.w0), [], defaultdict(list)
    for t, cohort in enumerate(run.cohorts):
        D, means = [], []
        for k in cohort:
            rho = torch.full_like(w, rho_default)
            for name in top[k]:
                rho[SPANS[name]] = rho_larger
            v, batches = w, run.batches(t, k)
            for x, y in batches:
                u = gradient(v, x, y)
                g = gradient(v + rho * u / (u.norm() + eps), x, y)
                v = run.step(v, alpha * g + (1 - alpha) * m, t)
            change = {n: (v - w)[at].square().mean() for n, at in SPANS.items() if "weight" in n}
            top[k] = select(t, k, {name: float(score) for name, score in change.items()})
            D.append(v - w)
            means.append((w - v) / (len(batches) * run.eta(t)))
        ps = run.shares(t)
        w, m = w + run.server_lr * total(ps, D), total(ps, means)
        path.append(w)
    return torch.stack(path)
