"""FedSGD, centralized, FedAvg under any gradient and server, FedProx, FedCM, FedSAGM."""

from __future__ import annotations

import torch
from torch import Tensor

from .gradients import Gradient, plain
from .run import Run, gradient, total
from .servers import Rule, average


def fedsgd(run: Run, rule: str) -> Tensor:
    w, path = run.w0, []
    for t, cohort in enumerate(run.cohorts):
        n = [len(run.data[k][1]) for k in cohort]
        G = [m * gradient(w, *run.data[k]) for m, k in zip(n, cohort, strict=True)]
        share = [m / sum(n) for m in n]
        counts = {"sum": [1.0] * len(n), "mean": [1 / sum(n)] * len(n), "weighted-sum": share}
        w = w - run.eta(t) * total(counts[rule], G)
        path.append(w)
    return torch.stack(path)


def centralized(run: Run, grad_at: Gradient = plain) -> Tensor:
    """`run` has one client that owns everything."""
    v, path = run.w0, []
    for t in range(len(run.cohorts)):
        for x, y in run.batches(t, 0):
            v = run.step(v, grad_at(v, x, y), t)
        path.append(v)
    return torch.stack(path)


def fedavg(run: Run, grad_at: Gradient = plain, rule: Rule | None = None) -> Tensor:
    """FedProx without its proximal term."""
    return fedprox(run, 0.0, "whole", grad_at, rule)


def fedprox(
    run: Run, mu: float, clip: str = "linear", grad_at: Gradient = plain, rule: Rule | None = None
) -> Tensor:
    w, path, rule = run.w0, [], rule or average(run)
    for t, cohort in enumerate(run.cohorts):
        D = []
        for k in cohort:
            v = w
            for x, y in run.batches(t, k):
                v = run.pulled(v, grad_at(v, x, y), t, w, mu, clip)
            D.append(v - w)
        w = w + rule(D, run.shares(t), t)
        path.append(w)
    return torch.stack(path)


def fedcm(run: Run, alpha: float, grad_at: Gradient = plain, rule: Rule | None = None) -> Tensor:
    """With `grad_at=sam(...)` MoFedSAM. Each client's mean direction counts its own steps."""
    w, m, path, rule = run.w0, torch.zeros_like(run.w0), [], rule or average(run)
    for t, cohort in enumerate(run.cohorts):
        D, means = [], []
        for k in cohort:
            v, batches = w, run.batches(t, k)
            for x, y in batches:
                v = run.step(v, alpha * grad_at(v, x, y) + (1 - alpha) * m, t)
            D.append(v - w)
            means.append((w - v) / (len(batches) * run.eta(t)))
        w, m = w + rule(D, run.shares(t), t), total(run.shares(t), means)
        path.append(w)
    return torch.stack(path)


def fedsagm(run: Run, rho: float, alpha: float, eps: float, share: float) -> Tensor:
    """share: 1 in the paper, 0.5 in the authors' optimizer."""

    def grad_at(v, x, y):
        g = gradient(v, x, y)
        return share * (g + gradient(v + (rho / (g.norm() + eps) - alpha) * g, x, y))

    return fedavg(run, grad_at)
