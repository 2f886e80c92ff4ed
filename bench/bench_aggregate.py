"""`aggregate`: the mean of K updates with their norms and the server's step, in one pass.

Bytes: K rows, base, acc, w and out once each; moments read and written. The foreach code keeps
its sum in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from buffers import K, S, bank, models, tensors
from fedfast.kernels import Server, aggregate
from marks import ONE_AND_TWO_THREADS, beside

pytestmark = ONE_AND_TWO_THREADS


def mean(
    clients: list[list[torch.Tensor]], base: list[torch.Tensor], acc: list[torch.Tensor]
) -> None:
    torch._foreach_zero_(acc)
    for rows in clients:
        update = torch._foreach_sub(rows, base)
        torch.stack(torch._foreach_norm(update))
        torch._foreach_add_(acc, update, alpha=1 / K)


@beside("foreach", "per_tensor")
def test_average(contest: Any) -> None:
    rows, base, w, out, acc = bank(), bank(S), bank(S), bank(S), torch.zeros(S, dtype=torch.float64)
    clients, start, total, model = models(), tensors(), tensors(), tensors()

    def foreach() -> None:
        mean(clients, start, total)
        torch._foreach_add_(model, total)

    def per_tensor() -> None:
        for i, p in enumerate(model):
            update = torch.stack([c[i] for c in clients]) - start[i]
            _ = update.flatten(1).norm(dim=1)
            p.add_(update.mean(dim=0))

    def fedfast() -> None:
        aggregate(rows, 1 / K, base, acc=acc, server=Server(), w=w, out=out)

    contest(
        "aggregate average",
        (4 * K + 4 + 8 + 8) / K,
        fedfast=fedfast,
        foreach=foreach,
        per_tensor=per_tensor,
    )


@beside("foreach")
def test_adam(contest: Any) -> None:
    rows, base, w, out, acc = bank(), bank(S), bank(S), bank(S), torch.zeros(S, dtype=torch.float64)
    m, v = torch.zeros(S), torch.ones(S)
    clients, start, total, model = models(), tensors(), tensors(), tensors()
    ms, vs = tensors(), [t.abs() for t in tensors()]

    def foreach() -> None:
        mean(clients, start, total)
        torch._foreach_lerp_(ms, total, 0.1)
        torch._foreach_mul_(vs, 0.99)
        torch._foreach_addcmul_(vs, total, total, 0.01)
        root = torch._foreach_sqrt(vs)
        torch._foreach_add_(root, 1e-3)
        torch._foreach_addcdiv_(model, ms, root)

    def fedfast() -> None:
        aggregate(rows, 1 / K, base, acc=acc, server=Server("adam"), w=w, m=m, v=v, out=out)

    contest("aggregate adam", (4 * K + 4 + 8 + 8 + 16) / K, fedfast=fedfast, foreach=foreach)


@beside("foreach")
def test_chunk(contest: Any) -> None:
    rows, base, acc = bank(), bank(S), torch.zeros(S, dtype=torch.float64)
    clients, start, total = models(), tensors(), tensors()

    def fedfast() -> None:
        aggregate(rows, 1 / K, base, acc=acc)

    contest(
        "aggregate chunk",
        (4 * K + 4 + 8) / K,
        fedfast=fedfast,
        foreach=lambda: mean(clients, start, total),
    )
