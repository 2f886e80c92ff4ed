"""The trace of K Hessians from products with random vectors.

    Hutchinson:  mean of v^T H v over vectors v of random signs
    Hutch++:     tr(Q^T H Q) + Hutchinson's mean over (I - Q Q^T) v, Q a basis of H S, S of signs

(Hutchinson 1990; Meyer, Musco, Musco, Woodruff 2021, "Hutch++", Algorithm 1.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...torch_settings import torch_threads
from .vectors import Products, signs


@dataclass(frozen=True)
class Trace:
    """Estimates `[K]` float64 and their standard errors `[K]`, NaN from a single vector."""

    values: Tensor
    errors: Tensor


def hutchinson(products: Products, samples: int, seed: int) -> Trace:
    """From so many products."""
    drawn = [signs(seed, i, products.parameters) for i in range(samples)]
    return _summed([_quadratic(products, [v] * products.models) for v in drawn])


def hutch_plus_plus(products: Products, samples: int, seed: int) -> Trace:
    """From three times samples // 3 products."""
    each, size = max(1, samples // 3), products.parameters
    sketch = [products.of_all(signs(seed, i, size)) for i in range(min(each, size))]
    with torch_threads(1):
        bases = [torch.linalg.qr(torch.stack(own, 1))[0] for own in zip(*sketch, strict=True)]
    exact = torch.zeros(products.models, dtype=torch.float64)
    for i in range(bases[0].shape[1]):
        exact += _quadratic(products, [q[:, i].contiguous() for q in bases])
    rest = []
    for i in range(each):
        drawn = signs(seed, samples + i, size)
        with torch_threads(1):
            apart = [drawn - q @ (q.T @ drawn) for q in bases]
        rest.append(_quadratic(products, apart))
    found = _summed(rest)
    return Trace(exact + found.values, found.errors)


def _quadratic(products: Products, v: list[Tensor]) -> Tensor:
    """`v_k^T H_k v_k` [K]."""
    found = products(v)
    # The order of a sum may depend on how many threads share it; that of BLAS on where rows begin.
    with torch_threads(1):
        return torch.stack([(p * own).sum() for p, own in zip(found, v, strict=True)])


def _summed(parts: list[Tensor]) -> Trace:
    found = [torch.stack(own) for own in zip(*parts, strict=True)]  # each [samples]
    deviation = torch.full_like(parts[0], torch.nan)
    if len(parts) > 1:
        deviation = torch.stack([one.std() for one in found])
    return Trace(torch.stack([one.mean() for one in found]), deviation / len(parts) ** 0.5)
