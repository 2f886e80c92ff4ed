"""`gram`: products of all pairs of K updates, beside torch's; one thread, CPU time.

torch makes D = rows - base and multiplies `D @ D.T`; "mm alone" has D already; "dots" is the bare
loop over pairs. flops count the triangle, which is what must be computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from buffers import S, normal
from fedfast.kernels import gram
from marks import THREAD_TIME, beside
from sizes import pick

pytestmark = THREAD_TIME


def actions(clients: int) -> dict[str, Callable[[], object]]:
    """What is timed, by contestant."""
    rows, base, d = normal(clients, S), normal(S), normal(clients, S)
    products = torch.empty(clients, clients)

    def torch_updates() -> None:
        torch.sub(rows, base, out=d)
        torch.mm(d, d.T, out=products)

    return {
        "fedfast": lambda: gram(rows, base),
        "torch": torch_updates,
        "mm alone": lambda: torch.mm(d, d.T, out=products),
        "dots": lambda: [torch.dot(rows[i], d[j]) for i in range(clients) for j in range(i + 1)],
    }


@pytest.mark.parametrize("clients", pick([10, 50, 100], [3]))
@beside("torch", "mm alone", "dots")
def test_gram(clients: int, contestant: str, benchmark: Any) -> None:
    benchmark.group = f"gram K = {clients}"
    benchmark.extra_info["flops"] = clients * (clients + 1) * S
    benchmark.pedantic(actions(clients)[contestant], rounds=5, warmup_rounds=1)
