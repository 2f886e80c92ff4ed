"""`Plan`: native operations recorded once and run again and again, client by client.

    with Plan() as plan:
        linear(x, w, b, out=y)          # checked and recorded, not run
        cross_entropy(y, t, n, losses=l, dlogits=dy)
    plan.run(clients, elements)

A run takes one client through all operations before the next: its weights and activations stay in
the core's caches, where operation by operation all clients' would pass through memory. One call
replaces all of them, and one barrier. Results are the operations' own, to the bit, since none
depends on how many clients it is given.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor

from . import native
from ._scalars import kind_of
from .declaration import In, InOut, Operation, Out

_INT, _LONG, _DOUBLE = torch.int32, torch.int64, torch.float64
FEED = Operation(
    "feed",
    "plan",
    (
        In("rows", "K T B", _LONG),
        In("count", "K T", _INT),
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


class Recorded(Protocol):
    """The compiled module's part of a plan."""

    def begin(self) -> None: ...
    def end(self) -> None: ...
    def run(self, clients: int, threads: int, elements: int) -> bool: ...


class Plan:
    """What was called within `with`, for the same buffers; these stay alive as long as the plan.

    Only native operations on `[K, ...]` blocks, `mix`, `adam` and `stats` can be recorded; others
    raise TypeError. What torch computes in between is computed then and there, once.
    """

    def __init__(self) -> None:
        self._plan: Recorded = native.module.Plan()
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

    def run(self, clients: int, elements: int) -> None:
        """Run for the first `clients` of those recorded, a client being `elements` numbers' work.

        Raises IndexError if an operation found an index out of range, ValueError for more clients
        than were recorded or elements beyond 2^40.
        """
        _check(self._plan.run(clients, torch.get_num_threads(), elements))

    def run_steps(self, rest: Plan, steps: Tensor, elements: int) -> None:
        """Run this plan for step 0 of every client, then `rest` for its other steps.

        steps     `[K]` int32 on the CPU, how many each client takes
        elements  as in `run`, of one step
        A client takes all its steps before the next one starts: no thread waits for another in
        between.
        Raises IndexError if an operation found an index out of range, TypeError/ValueError for
        other tables, more clients than were recorded or more steps than `feed` has.
        """
        if not isinstance(rest, Plan):
            raise TypeError(f"rest: expected a Plan; got {kind_of(rest)}")
        _table("steps", steps, torch.int32, 1)
        _dense("steps", steps, 0)
        threads = torch.get_num_threads()
        given = steps.data_ptr(), steps.shape[0], threads, elements
        _check(native.module.run_steps(self._plan, rest._plan, *given))


def forget_recording() -> None:
    """Operations run again instead of being recorded, whatever broke a recording off."""
    if native.module is not None:
        native.recording.kept = None
        native.module.forget_recording()


def feed(rows: Tensor, count: Tensor, rows_now: Tensor, count_now: Tensor) -> None:
    """In a plan: `rows_now = rows[:, step]`, `count_now = count[:, step]`.

    rows `[K, T, B]` int64 and count `[K, T]` int32, rows_now `[K, B]` and count_now `[K]`, all
    contiguous in a client. Steps of a run are at most T.
    Raises TypeError/ValueError naming the argument.
    """
    clients, steps, width = _table("rows", rows, torch.int64, 3).shape
    _table("count", count, torch.int32, 2, (clients, steps))
    _table("rows_now", rows_now, torch.int64, 2, (clients, width))
    _table("count_now", count_now, torch.int32, 1, (clients,))
    for name, t in ("rows", rows), ("count", count), ("rows_now", rows_now):
        _dense(name, t, 1)
    _dense("count_now", count_now, 0)
    native.called(FEED)(rows, count, rows_now, count_now)


def tally(losses: Tensor, count: Tensor, total: Tensor) -> None:
    """In a plan: `total += losses count`, from 0 at step 0. `[K]`: any float, int32, float64.

    Raises TypeError/ValueError naming the argument.
    """
    if not isinstance(losses, Tensor) or losses.dtype not in native.DTYPES:
        found = losses.dtype if isinstance(losses, Tensor) else kind_of(losses)
        raise TypeError(f"losses: expected a float32 or float64 tensor [K]; got {found}")
    _table("losses", losses, losses.dtype, 1)
    _table("count", count, torch.int32, 1, losses.shape)
    _table("total", total, torch.float64, 1, losses.shape)
    for name, t in ("losses", losses), ("count", count), ("total", total):
        _dense(name, t, 0)
    native.called(TALLY)(losses, count, total)


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
