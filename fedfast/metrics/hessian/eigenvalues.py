"""The largest eigenvalues of K Hessians, by Lanczos runs that end one by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .lanczos import Run, Runs
from .repeated import add_repeated
from .ritz import Found, Search, orthonormal
from .vectors import Products, normal


@dataclass(frozen=True)
class Eigenvalues:
    """Of K models, descending.

    values     `[K, top]` float64
    bounds     `[K, top]`: some eigenvalue is within this distance of each, up to rounding
    vectors    `[K, top, P]` float64, of norm 1, over the parameters without padding
    steps      `[K]` Lanczos steps; converged `[K]`: whether all bounds are below the tolerance, and
               eigenvalues that H has several times are known to be here as often
    A model whose products are not finite has nan, and is not converged.
    """

    values: Tensor
    bounds: Tensor
    vectors: Tensor
    steps: Tensor
    converged: Tensor


def largest(products: Products, top: int, tol: float, steps: int, seed: int) -> Eigenvalues:
    """See `Hessian.eigenvalues`."""
    search = Search(products, tol, steps, seed)
    runs = Runs(products, normal(seed, 0, products.parameters), seed)
    search.run(runs, [True] * products.models, lambda _, run: _converged(run, top, tol))
    found = [Found(products, run, top, _converged(run, top, tol)) for run in runs.each]
    del runs  # and their bases
    if top > 1:
        add_repeated(search, found)
    parts = [(one.values, one.bounds, orthonormal(one.vectors)) for one in found]
    values, bounds, vectors = (torch.stack(part) for part in zip(*parts, strict=True))
    counts, done = (torch.tensor([getattr(one, n) for one in found]) for n in ("steps", "done"))
    return Eigenvalues(values, bounds, vectors, counts, done)


def _converged(run: Run, top: int, tol: float) -> bool:
    if run.lost or len(run.alpha) < top:
        return False
    if run.complete:
        return True
    values, bounds, _ = run.solved()
    # Of an exhausted Krylov space these are exact; others are looked for beside them.
    return bool((bounds[:top] <= tol * float(values.abs().max())).all())
