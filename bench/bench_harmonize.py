"""Gradient harmonization (FedGH) in two passes over the rows, beside the loop over its pairs.

    pytest -q bench/bench_harmonize.py   one thread, CPU time; rows in bench/results/pairs.csv

Both: for i < j, where <d_i, d_j> < 0, each update is projected on the normal plane of the other's
value before the pair; then the weighted mean. The loop works on vectors of P elements; ours on the
K x K products and on coefficients (d_i = sum_k c_ik u_k of the original updates u), then aggregates
once with the weights a C.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from client_pairs import record, seconds
from fedfast.kernels import aggregate, gram
from harness import P
from torch import Tensor


def coefficients(products: np.ndarray) -> np.ndarray:
    """C of the harmonized updates C u, by the same projections on products alone."""
    g, clients = products.copy(), len(products)
    c = np.eye(clients)
    for i in range(clients):
        for j in range(i + 1, clients):
            if g[i, j] >= 0:
                continue
            turn = np.array([[1.0, -g[i, j] / g[j, j]], [-g[i, j] / g[i, i], 1.0]])
            pair = [i, j]
            c[pair] = turn @ c[pair]
            g[pair] = turn @ g[pair]
            g[:, pair] = g[:, pair] @ turn.T
    return c


def two_passes(rows: Tensor, base: Tensor, a: Tensor, acc: Tensor) -> None:
    """The harmonized mean in acc, by products and one aggregation."""
    c = coefficients(gram(rows, base).numpy())
    aggregate(rows, (a.double() @ torch.from_numpy(c)).float(), base, acc=acc)


def pairwise(rows: Tensor, base: Tensor, a: Tensor) -> Tensor:
    """The harmonized mean by projections of vectors."""
    d = rows - base
    for i in range(len(d)):
        for j in range(i + 1, len(d)):
            product = torch.dot(d[i], d[j])
            if product < 0:
                left, right = torch.dot(d[i], d[i]), torch.dot(d[j], d[j])
                before = d[i].clone()
                d[i].sub_(d[j], alpha=float(product / right))
                d[j].sub_(before, alpha=float(product / left))
    return a @ d


@pytest.mark.parametrize("clients", [10, 50])
def test_harmonize(clients: int, benchmark: Any) -> None:
    size = -(-P // 64) * 64
    base = torch.randn(size)
    rows = base + 0.01 * torch.randn(clients, size)  # half of all pairs of updates conflict
    a, acc = torch.full((clients,), 1 / clients), torch.empty(size, dtype=torch.float64)
    two_passes(rows, base, a, acc)
    slow = pairwise(rows, base, a)
    assert (acc - slow).norm() <= 1e-4 * slow.norm()
    ours = {"two passes": lambda: two_passes(rows, base, a, acc)}
    best = seconds(ours | {"pairwise": lambda: pairwise(rows, base, a)}, turns=3)
    best["gram alone"] = seconds({"gram": lambda: gram(rows, base)}, turns=3)["gram"]
    record("harmonize", clients, P, best)
    benchmark.pedantic(ours["two passes"], rounds=1)
    print(f"\nK={clients}: {best['pairwise'] / best['two passes']:.1f}x the loop over pairs")
