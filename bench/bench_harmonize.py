"""Gradient harmonization (FedGH) in two passes over the rows, beside the loop over its pairs.

Both: for i < j, where <d_i, d_j> < 0, each update is projected on the normal plane of the other's
value before the pair; then the weighted mean. The loop works on vectors of P elements; ours on the
K x K products and on coefficients (d_i = sum_k c_ik u_k of the original updates u), then aggregates
once with the weights a C. One thread, CPU time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from buffers import S, normal
from fedfast.kernels import aggregate, gram
from marks import THREAD_TIME, beside
from sizes import pick
from torch import Tensor

pytestmark = THREAD_TIME


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


@pytest.mark.parametrize("clients", pick([10, 50], [4]))
@beside("loop over pairs")
def test_harmonize(clients: int, contestant: str, benchmark: Any) -> None:
    base = normal(S)
    rows = base + 0.01 * normal(clients, S)  # half of all pairs of updates conflict
    a, acc = torch.full((clients,), 1 / clients), torch.empty(S, dtype=torch.float64)
    two_passes(rows, base, a, acc)
    slow = pairwise(rows, base, a)
    assert (acc - slow).norm() <= 1e-4 * slow.norm()
    actions = {
        "fedfast": lambda: two_passes(rows, base, a, acc),
        "loop over pairs": lambda: pairwise(rows, base, a),
    }
    benchmark.group = f"harmonize K = {clients}"
    benchmark.extra_info["bytes"] = 8 * clients * S  # two passes over the rows
    benchmark.pedantic(actions[contestant], rounds=3, warmup_rounds=1)
