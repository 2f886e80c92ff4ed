"""Ritz values and vectors of one model, and Lanczos runs that go on until these are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...torch_settings import torch_threads
from .lanczos import Run, Runs
from .vectors import Products


@dataclass(frozen=True)
class Search:
    """What all Lanczos runs of a call have in common; see `Hessian.eigenvalues`."""

    products: Products
    tol: float
    steps: int
    seed: int

    def run(self, runs: Runs, active: list[bool], done: Callable[[int, Run], bool]) -> None:
        """Until each active run is done, holds all eigenvalues or has made all its steps."""
        for _ in range(self.steps):
            pairs = zip(active, runs.each, strict=True)
            active = [on and not (run.complete or run.lost) for on, run in pairs]
            if not any(active):
                return
            runs.multiply(active)
            with torch_threads(1):
                active = [on and not done(k, runs.each[k]) for k, on in enumerate(active)]


class Found:
    """The `top` largest Ritz values of one model, descending; nan where its run is lost.

    values, bounds  [top]; vectors [top, P]; scale: the largest magnitude
    whole  whether they are of all eigenvalues; done: whether they are known
    """

    def __init__(self, products: Products, run: Run, top: int, done: bool) -> None:
        self.steps, self.whole, self.done, self.scale = len(run.alpha), run.complete, done, 0.0
        self.values = self.bounds = torch.full((top,), torch.nan, dtype=torch.float64)
        self.vectors = self.values[:, None].expand(top, products.parameters)
        if run.lost:
            return
        with torch_threads(1):
            values, bounds, inner = run.solved()
            self.vectors = products.vectors(run.combined(inner.T[:top]))
        self.values, self.bounds, self.scale = values[:top], bounds[:top], float(values.abs().max())

    def take(self, other: Found) -> bool:
        """One more, of vectors orthogonal to these; whether it is larger than the last."""
        self.steps, self.done = self.steps + other.steps, other.done
        if not other.values[0] > self.values[-1]:
            return False
        # H mixes it with those found, which are eigenvectors up to their own bounds only.
        bound = torch.cat([other.bounds, self.bounds]).norm()[None]
        values, bounds = torch.cat([self.values, other.values]), torch.cat([self.bounds, bound])
        kept = values.argsort(descending=True, stable=True)[:-1]
        self.values, self.bounds = values[kept], bounds[kept]
        self.vectors = torch.cat([self.vectors, other.vectors])[kept]
        return True


def orthonormal(vectors: Tensor) -> Tensor:
    """Vectors `[T, P]` float64, which are so up to rounding of the models' dtype; nan stays nan."""
    with torch_threads(1):
        lower = torch.linalg.cholesky_ex(vectors @ vectors.T).L
        return torch.linalg.solve_triangular(lower, vectors, upper=False)
