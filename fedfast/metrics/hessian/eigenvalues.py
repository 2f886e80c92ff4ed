"""The largest eigenvalues of K Hessians, by Lanczos runs that end one by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .lanczos import Run, Runs
from .vectors import Products, normal


@dataclass(frozen=True)
class Eigenvalues:
    """Of K models, descending.

    values     `[K, top]` float64
    bounds     `[K, top]`: some eigenvalue is within this distance of each, up to rounding
    vectors    `[K, top, P]` float64, of norm 1, over the parameters without padding
    steps      `[K]` Lanczos steps; converged `[K]`: whether all bounds are below the tolerance
    """

    values: Tensor
    bounds: Tensor
    vectors: Tensor
    steps: Tensor
    converged: Tensor


def largest(products: Products, top: int, tol: float, steps: int, seed: int) -> Eigenvalues:
    """See `Hessian.eigenvalues`."""
    runs = Runs(products, normal(seed, 0, products.parameters), seed)
    active = [True] * products.models
    for step in range(1, min(steps, products.parameters) + 1):
        runs.multiply(active)
        if step >= top:
            for k, run in enumerate(runs.each):
                active[k] = active[k] and not _converged(run, top, tol)
        if not any(active):
            break
    found = [_ritz(products, run, top) for run in runs.each]
    counts = torch.tensor([len(run.alpha) for run in runs.each])
    done = torch.tensor([_converged(run, top, tol) for run in runs.each])
    values, bounds, vectors = (torch.stack(part) for part in zip(*found, strict=True))
    return Eigenvalues(values, bounds, vectors, counts, done)


def _converged(run: Run, top: int, tol: float) -> bool:
    values, bounds, _ = run.solved()
    if len(run.alpha) == run.size:
        return True  # T has all eigenvalues
    # An exhausted Krylov space bounds nothing: copies of an eigenvalue may be outside of it.
    scale = float(values.abs().max())
    return run.beta[-1] > 0 and bool((bounds[:top] <= tol * scale).all())


def _ritz(products: Products, run: Run, top: int) -> tuple[Tensor, Tensor, Tensor]:
    values, bounds, inner = run.solved()
    vectors = products.vectors(run.basis.combined(inner.T[:top]))
    return values[:top], bounds[:top], vectors
