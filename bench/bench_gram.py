"""`gram`: products of all pairs of K updates, beside torch's product of the rows with themselves.

    pytest -q bench/bench_gram.py        one thread, CPU time; rows in bench/results/pairs.csv

Timed: ours on updates and on rows without a base; `D @ D.T` with D = rows - base made anew,
and without making it; the bare loop over pairs of dot products.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from client_pairs import record, seconds
from fedfast.kernels import gram
from harness import P


@pytest.mark.parametrize("clients", [10, 50, 100])
def test_gram(clients: int, benchmark: Any) -> None:
    size = -(-P // 64) * 64
    rows, base, d = torch.randn(clients, size), torch.randn(size), torch.empty(clients, size)
    products = torch.empty(clients, clients)

    def torch_updates() -> None:
        torch.sub(rows, base, out=d)
        torch.mm(d, d.T, out=products)

    actions = {
        "gram": lambda: gram(rows, base),
        "gram without base": lambda: gram(rows),
        "torch D @ D.T": torch_updates,
        "torch mm alone": lambda: torch.mm(d, d.T, out=products),
        "torch.dot per pair": lambda: [
            torch.dot(rows[i], rows[j]) for i in range(clients) for j in range(i + 1)
        ],
    }
    best = seconds(actions, turns=5)
    record("gram", clients, P, best)
    benchmark.pedantic(actions["gram"], rounds=1)
    useful, full = clients * (clients + 1) * size / 1e9, 2 * clients**2 * size / 1e9
    print(
        f"\nK={clients}: gram {useful / best['gram']:.0f} GFLOP/s of its triangle, "
        f"{full / best['gram']:.0f} of the square; torch {full / best['torch D @ D.T']:.0f}, "
        f"mm alone {full / best['torch mm alone']:.0f}; "
        f"{best['torch D @ D.T'] / best['gram']:.2f}x torch, "
        f"{best['torch.dot per pair'] / best['gram']:.1f}x dots"
    )
