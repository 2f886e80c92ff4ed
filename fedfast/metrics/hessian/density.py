"""The spectral density of K Hessians by stochastic Lanczos quadrature.

    phi(t) = mean over start vectors of  sum_i s_1i^2 N(t; theta_i, sigma^2)

theta, s: eigenvalues and vectors of each run's tridiagonal matrix.
(Ghorbani, Krishnan, Xiao 2019, "An investigation into neural net optimization via Hessian
eigenvalue density", Algorithm 1.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...torch_settings import torch_threads
from .lanczos import Run, Runs
from .vectors import Products, normal

MARGIN = 5  # standard deviations of the smoothing that the grid goes beyond the nodes


@dataclass(frozen=True)
class Density:
    """Of K models, each on a grid of its own: grid, values `[K, G]` float64; integral 1.

    nan of a model whose products are not finite.
    """

    grid: Tensor
    values: Tensor


def quadrature(
    products: Products,
    samples: int,
    steps: int,
    points: int,
    width: float,
    seed: int,
    outside: int = 0,
) -> Density:
    """See `Hessian.density`. outside: so many more eigenvalues are 0."""
    share = products.parameters / (products.parameters + outside)
    zero = torch.zeros(1, dtype=torch.float64), torch.full((1,), 1 - share, dtype=torch.float64)
    nodes: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(products.models)]
    for i in range(samples):
        runs = Runs(products, normal(seed, i, products.parameters), seed + 1 + i)
        for _ in range(min(steps, products.parameters)):
            runs.multiply([not run.lost for run in runs.each])
        for own, run in zip(nodes, runs.each, strict=True):
            own.append(_nodes(run, share / samples))
    if outside:
        nodes = [[*own, zero] for own in nodes]
    with torch_threads(1):
        found = [_smooth(own, points, width) for own in nodes]
    grid, values = (torch.stack(part) for part in zip(*found, strict=True))
    return Density(grid, values)


def _nodes(run: Run, share: float) -> tuple[Tensor, Tensor]:
    """Ritz values, and weights whose sum is `share`; nan where a product was not finite."""
    if run.lost:
        return (torch.full((1,), torch.nan, dtype=torch.float64),) * 2
    with torch_threads(1):
        values, _, vectors = run.solved()
    return values, share * vectors[0] ** 2


def _smooth(nodes: list[tuple[Tensor, Tensor]], points: int, width: float) -> tuple[Tensor, Tensor]:
    at, weights = torch.cat([n for n, _ in nodes]), torch.cat([w for _, w in nodes])
    low, high = float(at.min()), float(at.max())
    sigma = width * ((high - low) or abs(high) or 1.0)
    ends = low - MARGIN * sigma, high + MARGIN * sigma
    grid = torch.linspace(*ends, points, dtype=torch.float64)
    values = (torch.exp(-(((grid[:, None] - at) / sigma) ** 2) / 2) * weights).sum(1)
    return grid, values / torch.trapezoid(values, grid)
