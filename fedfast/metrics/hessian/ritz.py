"""Ritz values and vectors of one model, and Lanczos runs that go on until these are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...torch_settings import torch_threads
from .lanczos import Run, multiply
from .vectors import Products


@dataclass(frozen=True)
class Search:
    """What all Lanczos runs of a call have in common; see `Hessian.eigenvalues`."""

    products: Products
    tol: float
    steps: int
    seed: int

    def run(self, runs: list[Run], active: list[bool], done: Callable[[int, Run], bool]) -> None:
        """Until each active run is done, holds all eigenvalues or has made all its steps."""
        for _ in range(self.steps):
            active = [on and not run.complete for on, run in zip(active, runs, strict=True)]
            if not any(active):
                return
            multiply(self.products, runs, active)
            active = [on and not done(k, runs[k]) for k, on in enumerate(active)]


class Found:
    """The `top` largest Ritz values of one model, descending; nan where its run is lost.

    values, bounds  [top]; vectors [top, P]; scale: the largest magnitude
    whole  whether they are of all eigenvalues; done: whether they are known
    """

    def __init__(self, run: Run, top: int, done: bool) -> None:
        self.steps, self.whole, self.done, self.scale = len(run.alpha), run.complete, done, 0.0
        self.values = self.bounds = torch.full((top,), torch.nan, dtype=torch.float64)
        self.vectors = self.values[:, None].expand(top, len(run.basis[0]))
        if run.lost:
            return
        with torch_threads(1):
            values, bounds, inner = run.solved()
            self.vectors = inner.T[:top] @ torch.stack(run.basis[: self.steps])
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
