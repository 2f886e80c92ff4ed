"""The largest eigenvalues of one model's Hessian as PyHessian finds them: power iteration.

One eigenvalue after another: a random vector is made orthogonal to the eigenvectors so far,
multiplied and scaled to norm 1, until its Rayleigh quotient changes by less than `tol` of itself,
or `limit` products have been made. (Yao et al. 2020, "PyHessian", section 3.1.) What this finds is
largest in magnitude.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Vectors = list[Tensor]  # a part for each parameter
SMALL = 1e-6  # keeps divisors above zero


def dot(a: Vectors, b: Vectors) -> Tensor:
    """Of all parts together."""
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def scaled(v: Vectors) -> Vectors:
    """To norm 1."""
    norm = dot(v, v).sqrt() + SMALL
    return [part / norm for part in v]


def apart(v: Vectors, others: list[Vectors]) -> Vectors:
    """Orthogonal to all of them, and of norm 1."""
    for other in others:
        share = dot(v, other)
        v = [x - share * y for x, y in zip(v, other, strict=True)]
    return scaled(v)


def largest(
    product: Callable[[Vectors], Vectors],
    like: Vectors,
    top: int,
    tol: float = 1e-3,
    limit: int = 100,
    generator: torch.Generator | None = None,
) -> tuple[list[float], int]:
    """The eigenvalues, and how many products they took. like: tensors of the parts' shapes."""
    found: list[Vectors] = []
    values: list[float] = []
    products = 0
    for _ in range(top):
        v = scaled([torch.randn(part.shape, generator=generator) for part in like])
        value: float | None = None
        for _ in range(limit):
            v = apart(v, found)
            multiplied = product(v)
            products += 1
            before, value = value, float(dot(multiplied, v))
            v = scaled(multiplied)
            if before is not None and abs(before - value) / (abs(before) + SMALL) < tol:
                break
        found.append(v)
        values.append(float("nan") if value is None else value)
    return values, products
