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
from ._native import address, operand
from ._native_layers import problem


class Plan:
    """What was called within `with`, for the same buffers; these stay alive as long as the plan.

    Only native operations on `[K, ...]` blocks, `mix` and `stats` can be noted; others raise
    TypeError. What torch computes in between is computed then and there, once.
    """

    def __init__(self) -> None:
        self._plan: Any = _native.module.Plan()
        self._kept: list[Tensor] = []

    def __enter__(self) -> Plan:
        try:
            self._plan.begin()
            _native.noting.kept = self._kept
        except BaseException:  # a signal's too: who is not within `with` has no `__exit__`
            forget_noting()
            raise
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
        _check(self._plan.run(clients, torch.get_num_threads(), elements))

    def run_steps(self, rest: Plan, steps: Tensor, elements: int) -> None:
        """Run this plan for step 0 of every client, then `rest` for its other steps.

        steps     `[K]` int32 on the CPU, how many each client takes
        elements  as in `run`, of one step
        A client takes all its steps before the next one starts: no thread waits for another in
        between.
        Raises IndexError if an operation found an index out of range.
        """
        threads = torch.get_num_threads()
        given = address(steps), steps.shape[0], threads, elements
        _check(_native.module.run_steps(self._plan, rest._plan, *given))


def forget_noting() -> None:
    """Operations are done again, not noted, whatever has broken off the noting of a plan."""
    if _native.module is not None:
        _native.noting.kept = None
        _native.module.Plan().end()


def feed(rows: Tensor, count: Tensor, rows_now: Tensor, count_now: Tensor) -> None:
    """In a plan: `rows_now = rows[:, step]`, `count_now = count[:, step]`.

    rows `[K, T, B]` int64 and count `[K, T]` int32, rows_now `[K, B]` and count_now `[K]`, all
    contiguous in a client.
    """
    places = operand(rows), operand(count), operand(rows_now), address(count_now)
    _native.module.feed(problem(rows), rows.shape[2], *places)


def tally(losses: Tensor, count: Tensor, total: Tensor) -> None:
    """In a plan: `total += losses count`, from 0 at step 0. `[K]`: any float, int32, float64."""
    _native.module.tally(problem(losses), address(losses), address(count), address(total))


def _check(fine: bool) -> None:
    if not fine:
        raise IndexError("a sample, a target or a count of a client is out of range")
