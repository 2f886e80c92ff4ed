"""Plans of a layer program: noted the first time a step meets its buffers, run ever after.

A key says which buffers and numbers a step was given. A learning rate that changes from round to
round makes new keys, so only the latest plans are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import kernels
from ..input_pipeline import View
from ..kernels import Plan

KEPT = 16


@dataclass(frozen=True)
class RecordedPlan:
    """A plan and the number of clients it was noted for: it serves fewer as well."""

    plan: Plan
    clients: int


class PlanCache:
    """Keeps the plans of one path; `work` is what a client's step takes, in numbers."""

    def __init__(self, work: int) -> None:
        self.work = work
        self._plans: dict[Hashable, RecordedPlan] = {}

    def plan(self, key: Hashable, clients: int, body: Callable[[], None]) -> Plan:
        """The plan of `body`, whose operations are noted unless they were before."""
        noted = self._plans.get(key)
        if noted is None or noted.clients < clients:
            with Plan() as plan:
                body()
            if len(self._plans) >= KEPT:
                del self._plans[next(iter(self._plans))]
            noted = self._plans[key] = RecordedPlan(plan, clients)
        return noted.plan


class ChunkBuffers:
    """Where a chunk's batches lie while plans run: all of them, and those of the step at hand.

    rows [K, T, B], count [K, T]; x [K, B, ...], y [K, B], rows_now, count_now [K] of one step;
    total [K] float64, the summed losses
    """

    def __init__(self, view: View, y: Tensor, rows: Tensor) -> None:
        clients, steps, width = rows.shape
        self.rows, self.rows_now = torch.empty_like(rows), rows.new_empty(clients, width)
        self.count = torch.empty(clients, steps, dtype=torch.int32)
        self.count_now = torch.zeros(clients, dtype=torch.int32)
        self.x, self.y = view.empty(rows[:, 0]), y.new_empty(clients, width)
        self.total = torch.zeros(clients, dtype=torch.float64)

    def holds(self, rows: Tensor) -> bool:
        """Whether there is room for these."""
        return rows.shape[2] == self.rows.shape[2] and all(
            a <= b for a, b in zip(rows.shape, self.rows.shape, strict=True)
        )

    def write(self, rows: Tensor, count: Tensor) -> None:
        """The chunk to work on."""
        clients, steps, _ = rows.shape
        self.rows[:clients, :steps] = rows
        self.count[:clients, :steps] = count

    def fetch(self, view: View, y: Tensor, backend: str) -> None:
        """In a plan: the batch of the step at hand."""
        kernels.feed(self.rows, self.count, self.rows_now, self.count_now)
        view.take(self.rows_now, self.x)
        kernels.gather(y, self.rows_now, out=self.y, backend=backend)


def place(*tensors: Tensor) -> tuple[int, ...]:
    """Where `[K, ...]` tensors lie."""
    return tuple(number for t in tensors for number in (t.data_ptr(), t.stride(0)))
