"""`Plan`: native operations recorded once and run again and again, client by client.

    with Plan() as plan:
        linear(x, w, b, out=y)          # checked and recorded, not run
        cross_entropy(y, t, n, losses=l, dlogits=dy)
    plan.run(clients, elements)

A run takes one client through all operations before the next: its weights and activations stay in
the core's caches, where operation by operation all clients' would pass through memory. One call
replaces all of them, and one barrier. Results are the operations' own, to the bit, since none
depends on how many clients it is given.

`Plan(whole=True)` keeps operations as they were called, on all their clients, whichever they are:
`run_whole()` saves what it takes to look at arguments again.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Protocol

from torch import Tensor

from . import native
from ._scalars import kind_of
from .plan_arguments import Counted, Soon, begins_of, counts_of, lanes_of, models_of, soon_of
from .threads import threads


class Recorded(Protocol):
    """The compiled module's part of a plan."""

    def begin(self) -> None: ...
    def end(self) -> None: ...
    def run(self, clients: int, threads: int, elements: int, count: int, width: int) -> bool: ...
    def run_whole(self, threads: int) -> bool: ...


class Lanes(NamedTuple):
    """Rows of threads: what is needed only while a client's steps run, and from then on again.

    rows   each `[>= K, n]`: operands `[K, ...]` that begin in its first row mean, in plans that run
           with it, the row of the thread at work instead of the client's. Rows behind the first so
           many threads are never touched
    fill   or None; run as a thread takes a client: before its first step, and again where another
           thread goes on with it
    alike  `[>= K]` int64, or None: clients of the same number would have the same row, which is
           then not filled again for the second of them
    form   or None; fills one of the rows too, which `linear_backward` alone reads, as what it adds.
           Where that is one `step` by -1 along at most two terms, it is left out: the products
           form what they read
    """

    rows: Sequence[Tensor]
    fill: Plan | None
    alike: Tensor | None = None
    form: Plan | None = None


class Plan:
    """What was called within `with`, for the same buffers; these stay alive as long as the plan.

    Only native operations on `[K, ...]` blocks, `mix`, `adam` and `stats` can be recorded, unless
    it is a plan of `whole` calls; others raise TypeError. What torch computes in between is
    computed then and there, once.
    """

    def __init__(self, whole: bool = False) -> None:
        self._plan: Recorded = native.module.Plan(whole)
        self._kept: list[Tensor] = []

    def __enter__(self) -> Plan:
        try:
            self._plan.begin()
            native.recording.kept = self._kept
        except BaseException:  # a signal's too: who is not within `with` has no `__exit__`
            forget_recording()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        native.recording.kept = None
        self._plan.end()

    def run(self, clients: int, elements: int, counted: Counted | None = None) -> None:
        """Run for the first `clients` of those recorded, a client being `elements` numbers' work.

        counted  `[>= clients]`, for operations to leave out the rest of a client's batch
        Raises IndexError if an operation found an index out of range, ValueError for more clients
        than were recorded or elements beyond 2^40.
        """
        how = threads(), elements
        _check(self._plan.run(clients, *how, *counts_of(counted, clients)))

    def run_whole(self) -> None:
        """Run operations one after another, each as it was called.

        Raises IndexError if one found an index out of range.
        """
        _check(self._plan.run_whole(threads()))

    def run_steps(
        self,
        rest: Plan,
        offsets: Tensor,
        elements: int,
        counted: Counted | None = None,
        soon: Soon | None = None,
        last: Plan | None = None,
        lanes: Lanes | None = None,
        models: Tensor | None = None,
    ) -> None:
        """Run this plan for step 0 of every client, then `rest` for its other steps, then `last`.

        offsets   `[T + 1]` int64 on the CPU, of packed batches: step s of client k is line
                  `offsets[s] + k`, the first `offsets[s + 1] - offsets[s]` clients take it
        elements  as in `run`, of one step
        counted   as in `run`, of all lines; soon needs its width
        lanes     `Lanes`, or None
        models    `[>= K, n]`, or None: rows of which a step writes every element once. `last` then
                  follows piece by piece what products with weights write there, if it consists of
                  `step`s without a clip on rows of n elements
        A client takes all its steps on one thread, which takes the longest one left when it is
        done: no thread waits for another in between.
        Raises IndexError if an operation found an index out of range, TypeError/ValueError for
        other tables, more clients than were recorded or more batches than `feed` has.
        """
        begins = begins_of(offsets)
        most = int(begins[-1]), int(begins[1]) if len(begins) > 1 else 0
        StepsCall(self, rest, elements, most, counted, soon, last, lanes, models).run(offsets)


class StepsCall:
    """`Plan.run_steps` of one set of arguments, which are looked at once.

    most  (lines, clients) that there will be
    """

    def __init__(
        self,
        first: Plan,
        rest: Plan,
        elements: int,
        most: tuple[int, int],
        counted: Counted | None = None,
        soon: Soon | None = None,
        last: Plan | None = None,
        lanes: Lanes | None = None,
        models: Tensor | None = None,
    ) -> None:
        if not isinstance(rest, Plan):
            raise TypeError(f"rest: expected a Plan; got {kind_of(rest)}")
        if not isinstance(last, Plan | None):
            raise TypeError(f"last: expected a Plan or None; got {kind_of(last)}")
        lines, clients = self.most = most
        counts = counts_of(counted, lines)
        hints, own = soon_of(soon, counts[1], lines, clients), _lanes(lanes, clients)
        around = last, lanes and lanes.fill, lanes and lanes.form
        plans = (None if p is None else p._plan for p in around)
        self._kept = first, rest, counted, soon, last, lanes, models
        self._plans, self._elements = (first._plan, rest._plan), elements
        self._rest = *counts, hints, *plans, *own, models_of(models, clients)

    def run(self, offsets: Tensor) -> None:
        """The steps of batches that lie so; see `Plan.run_steps`."""
        begins = begins_of(offsets)
        lines, clients = begins[-1], begins[1] if len(begins) > 1 else 0
        if lines > self.most[0] or clients > self.most[1]:
            raise ValueError(
                f"offsets: expected at most {self.most[0]} batches of {self.most[1]} clients; got "
                f"{lines} of {clients}"
            )
        at = offsets.data_ptr(), len(begins) - 1, threads(), self._elements
        _check(native.module.run_steps(*self._plans, *at, *self._rest))


def _lanes(lanes: Lanes | None, clients: int) -> tuple[list[tuple[int, int]], int]:
    """(address and bytes of each first row, where `alike` is); [], 0 for none."""
    if lanes is None:
        return [], 0
    for name, plan in ("fill", lanes.fill), ("form", lanes.form):
        if not isinstance(plan, Plan | None):
            raise TypeError(f"lanes.{name}: expected a Plan or None; got {kind_of(plan)}")
    return lanes_of(lanes.rows, lanes.alike, clients)


def forget_recording() -> None:
    """Operations run again instead of being recorded, whatever broke a recording off."""
    if native.module is not None:
        native.recording.kept = None
        native.module.forget_recording()


def _check(fine: bool) -> None:
    if not fine:
        raise IndexError("a sample, a target or a count of a client is out of range")
