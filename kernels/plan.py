"""`Plan`: native operations noted once and run again and again, client by client.

    with Plan() as plan:
        linear(x, w, b, out=y)          # checked and noted, not run
        cross_entropy(y, t, n, losses=l, dlogits=dy)
    plan.run(clients, elements)

A run takes one client through all operations before the next: its weights and activations stay in
the core's caches, where operation by operation all clients' would pass through memory. One call
replaces all of them, and one barrier. Results are the operations' own, to the bit, since none
depends on how many clients it is given.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from . import _native


class Plan:
    """What was called within `with`, for the same buffers; these stay alive as long as the plan.

    Only native operations on `[K, ...]` blocks, `mix` and `stats` can be noted; others raise
    TypeError. What torch computes in between is computed then and there, once.
    """

    def __init__(self) -> None:
        self._plan: Any = _native.module.Plan()
        self._kept: list[Tensor] = []

    def __enter__(self) -> Plan:
        self._plan.begin()
        _native.noting.kept = self._kept
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _native.noting.kept = None
        self._plan.end()

    def run(self, clients: int, elements: int) -> None:
        """Run for the first `clients` of those noted, a client being `elements` numbers' work.

        Raises IndexError if an operation found an index out of range.
        """
        if not self._plan.run(clients, torch.get_num_threads(), elements):
            raise IndexError("a sample, a target or a count of a client is out of range")
