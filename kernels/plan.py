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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import native
from ._scalars import kind_of
from .declaration import In, InOut, Operation, Out
from .threads import threads

_INT, _LONG, _DOUBLE = torch.int32, torch.int64, torch.float64
FEED = Operation(
    "feed",
    "plan",
    (
        In("rows", "R B", _LONG),
        In("count", "R", _INT),
        Out("rows_now", "K B", _LONG),
        Out("count_now", "K", _INT),
    ),
    like="rows",
)
TALLY = Operation(
    "tally",
    "plan",
    (In("losses", "K"), In("count", "K", _INT), InOut("total", "K", _DOUBLE)),
    like="losses",
)
TURN = Operation("turn", "plan", (In("table", "T"), Out("now", "K")), like="now")


class Recorded(Protocol):
    """The compiled module's part of a plan."""

    def begin(self) -> None: ...
    def end(self) -> None: ...
    def run(self, clients: int, threads: int, elements: int, count: int, width: int) -> bool: ...
    def run_whole(self, threads: int) -> bool: ...


class Counted(NamedTuple):
    """How many samples of each batch count, int32, of batches of `width` samples."""

    counts: Tensor
    width: int


class Soon(NamedTuple):
    """What steps to come touch, for threads to have it fetched meanwhile; no result depends on it.

    samples  a contiguous bank `[N, ...]`; rows `[R, B]` int64: of each line
    models   `[>= K, n]`, the rows that clients' first steps write, each contiguous
    """

    samples: Tensor
    rows: Tensor
    models: Tensor


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
        _check(self._plan.run(clients, *how, *_counts(counted, clients)))

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
        begins = _offsets(offsets)
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
        counts = _counts(counted, lines)
        hints, own = _soon(soon, counts[1], lines, clients), _lanes(lanes, clients)
        around = last, lanes and lanes.fill, lanes and lanes.form
        plans = (None if p is None else p._plan for p in around)
        self._kept = first, rest, counted, soon, last, lanes, models
        self._plans, self._elements = (first._plan, rest._plan), elements
        self._rest = *counts, hints, *plans, *own, _models(models, clients)

    def run(self, offsets: Tensor) -> None:
        """The steps of batches that lie so; see `Plan.run_steps`."""
        begins = _offsets(offsets)
        lines, clients = begins[-1], begins[1] if len(begins) > 1 else 0
        if lines > self.most[0] or clients > self.most[1]:
            raise ValueError(
                f"offsets: expected at most {self.most[0]} batches of {self.most[1]} clients; got "
                f"{lines} of {clients}"
            )
        at = offsets.data_ptr(), len(begins) - 1, threads(), self._elements
        _check(native.module.run_steps(*self._plans, *at, *self._rest))


def _offsets(offsets: Tensor) -> NDArray[np.int64]:
    """What lies in them, which costs less to read than from the tensor."""
    _table("offsets", offsets, torch.int64, 1)
    _dense("offsets", offsets, 0)
    if offsets.shape[0] == 0:
        raise ValueError("offsets: expected shape [T + 1]; got [0]")
    begins: NDArray[np.int64] = offsets.numpy()
    return begins


def _counts(counted: Counted | None, most: int) -> tuple[int, int]:
    """(the address of the counts, the width of a batch); 0, 0 for none."""
    if counted is None:
        return 0, 0
    count = counted.counts
    _table("count", count, torch.int32, 1)
    _dense("count", count, 0)
    if count.shape[0] < most:
        raise ValueError(f"count: expected at least {most}; got {count.shape[0]}")
    return count.data_ptr(), counted.width


def _soon(soon: Soon | None, width: int, lines: int, clients: int) -> tuple[int, ...]:
    """The compiled module's `Soon`: addresses and strides in bytes."""
    if soon is None:
        return 0, 0, 0, 0, 0, 0
    samples, rows, models = soon
    _table("soon.rows", rows, torch.int64, 2)
    _dense("soon.rows", rows, 0)
    if rows.shape[0] < lines or rows.shape[1] != width:
        raise ValueError(f"soon.rows: expected at least [{lines}, {width}]; got {list(rows.shape)}")
    if models.shape[0] < clients:
        raise ValueError(f"soon.models: expected at least {clients} rows; got {models.shape[0]}")
    sample = samples.stride(0) * samples.element_size()
    size = models.element_size()
    at = models.data_ptr(), models.stride(0) * size, models.shape[1] * size
    return samples.data_ptr(), sample, rows.data_ptr(), *at


def _models(models: Tensor | None, clients: int) -> tuple[int, int, int]:
    """Address, stride and bytes of the rows; 0 for none."""
    if models is None:
        return 0, 0, 0
    if models.ndim != 2 or models.shape[0] < clients or models.stride(1) != 1:
        raise ValueError(
            f"models: expected [K, n] of at least {clients} clients, contiguous rows; got "
            f"{list(models.shape)}, strides {models.stride()}"
        )
    size = models.element_size()
    return models.data_ptr(), models.stride(0) * size, models.shape[1] * size


def _lanes(lanes: Lanes | None, clients: int) -> tuple[list[tuple[int, int]], int]:
    """(address and bytes of each first row, where `alike` is); [], 0 for none."""
    if lanes is None:
        return [], 0
    for name, plan in ("fill", lanes.fill), ("form", lanes.form):
        if not isinstance(plan, Plan | None):
            raise TypeError(f"lanes.{name}: expected a Plan or None; got {kind_of(plan)}")
    for i, rows in enumerate(lanes.rows):
        if rows.ndim != 2 or rows.shape[0] < clients or rows.stride(0) < rows.shape[1]:
            raise ValueError(
                f"lanes.rows[{i}]: expected [K, n] of at least {clients} clients, rows apart; got "
                f"{list(rows.shape)}, strides {rows.stride()}"
            )
    if lanes.alike is not None:
        _table("lanes.alike", lanes.alike, torch.int64, 1, (clients,))
        _dense("lanes.alike", lanes.alike, 0)
    same = 0 if lanes.alike is None else lanes.alike.data_ptr()
    return [(t.data_ptr(), t.shape[1] * t.element_size()) for t in lanes.rows], same


def forget_recording() -> None:
    """Operations run again instead of being recorded, whatever broke a recording off."""
    if native.module is not None:
        native.recording.kept = None
        native.module.forget_recording()


def feed(rows: Tensor, count: Tensor, rows_now: Tensor, count_now: Tensor) -> None:
    """In a plan: `rows_now[k] = rows[line]`, `count_now[k] = count[line]`, see `Plan.run_steps`.

    rows `[n, B]` int64 and count `[n]` int32, packed; rows_now `[K, B]` and count_now `[K]`, all
    contiguous in a client.
    Raises TypeError/ValueError naming the argument.
    """
    lines, width = _table("rows", rows, torch.int64, 2).shape
    _table("count", count, torch.int32, 1, (lines,))
    clients = _table("rows_now", rows_now, torch.int64, 2).shape[0]
    if rows_now.shape[1] != width:
        raise ValueError(f"rows_now: expected shape [K, {width}]; got {list(rows_now.shape)}")
    _table("count_now", count_now, torch.int32, 1, (clients,))
    _dense("rows_now", rows_now, 1)
    for name, t in ("rows", rows), ("count", count), ("count_now", count_now):
        _dense(name, t, 0)
    native.called(FEED)(rows, count, rows_now, count_now)


def turn(table: Tensor, now: Tensor) -> None:
    """In a plan: `now = table[step]`, the last number where there are fewer steps. `[T]`, `[K]`

    Both float32 or float64, and contiguous.
    Raises TypeError/ValueError naming the argument.
    """
    _numbers("table", table)
    if not len(table):
        raise ValueError("table: expected [T] with T > 0; got [0]")
    _table("now", now, table.dtype, 1)
    for name, t in ("table", table), ("now", now):
        _dense(name, t, 0)
    native.called(TURN)(table, now)


def tally(losses: Tensor, count: Tensor, total: Tensor) -> None:
    """In a plan: `total += losses count`, from 0 at step 0. `[K]`: any float, int32, float64.

    Raises TypeError/ValueError naming the argument.
    """
    _numbers("losses", losses)
    _table("count", count, torch.int32, 1, losses.shape)
    _table("total", total, torch.float64, 1, losses.shape)
    for name, t in ("losses", losses), ("count", count), ("total", total):
        _dense(name, t, 0)
    native.called(TALLY)(losses, count, total)


def _numbers(name: str, value: object) -> None:
    """Raise unless `value` is a float32 or float64 tensor on the CPU of one dimension."""
    if not isinstance(value, Tensor) or value.dtype not in native.DTYPES:
        found = value.dtype if isinstance(value, Tensor) else kind_of(value)
        raise TypeError(f"{name}: expected a float32 or float64 tensor [K]; got {found}")
    _table(name, value, value.dtype, 1)


def _table(
    name: str, value: object, dtype: torch.dtype, dims: int, shape: tuple[int, ...] | None = None
) -> Tensor:
    """`value`, a tensor on the CPU of that dtype, number of dimensions and shape, K or more."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor of {dtype}; got {kind_of(value)}")
    if value.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}; got {value.dtype}")
    fits = value.ndim == dims
    if fits and shape is not None:
        fits = value.shape[0] >= shape[0] and value.shape[1:] == torch.Size(shape[1:])
    if not fits:
        wanted = f"{dims} dimensions" if shape is None else f"shape {list(shape)}, or more clients"
        raise ValueError(f"{name}: expected {wanted}; got {list(value.shape)}")
    if value.device.type != "cpu":
        raise ValueError(f"{name}: expected device cpu; got {value.device}")
    return value


def _dense(name: str, value: Tensor, first: int) -> None:
    """Raise ValueError unless the dimensions from `first` on are contiguous."""
    if value.shape[0] and not (value if first == 0 else value[0]).is_contiguous():
        raise ValueError(f"{name}: expected contiguous numbers; got strides {value.stride()}")


def _check(fine: bool) -> None:
    if not fine:
        raise IndexError("a sample, a target or a count of a client is out of range")
