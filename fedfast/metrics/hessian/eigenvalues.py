"""The largest eigenvalues of K Hessians, by Lanczos runs that end one by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .lanczos import Run
from .repeated import add_repeated
from .ritz import Found, Search
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
    start = normal(seed, 0, products.parameters)
    runs = [Run(start, seed) for _ in range(products.models)]
    search.run(runs, [True] * len(runs), lambda _, run: _converged(run, top, tol))
    found = [Found(run, top, _converged(run, top, tol)) for run in runs]
    del runs  # and their bases
    if top > 1:
        add_repeated(search, found)
    parts = [(one.values, one.bounds, one.vectors) for one in found]
    values, bounds, vectors = (torch.stack(part) for part in zip(*parts, strict=True))
    counts, done = (torch.tensor([getattr(one, n) for one in found]) for n in ("steps", "done"))
    return Eigenvalues(values, bounds, vectors, counts, done)


def _converged(run: Run, top: int, tol: float) -> bool:
    if run.lost or len(run.alpha) < top:
        return False
    if run.complete:
        return True
    values, bounds, _ = run.solved()
    # An exhausted Krylov space bounds nothing: copies of an eigenvalue may be outside of it.
    scale = float(values.abs().max())
    return run.beta[-1] > 0 and bool((bounds[:top] <= tol * scale).all())
