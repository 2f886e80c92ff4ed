"""What only plans run, besides operations: lines of batches, sums of losses, numbers by step."""

from __future__ import annotations

import torch
from torch import Tensor

from . import native
from ._plan_tensors import check_dense, check_numbers, check_table
from .declaration import In, InOut, Operation, Out

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


def feed(rows: Tensor, count: Tensor, rows_now: Tensor, count_now: Tensor) -> None:
    """In a plan: `rows_now[k] = rows[line]`, `count_now[k] = count[line]`, see `Plan.run_steps`.

    rows `[n, B]` int64 and count `[n]` int32, packed; rows_now `[K, B]` and count_now `[K]`, all
    contiguous in a client.
    Raises TypeError/ValueError naming the argument.
    """
    lines, width = check_table("rows", rows, torch.int64, 2).shape
    check_table("count", count, torch.int32, 1, (lines,))
    clients = check_table("rows_now", rows_now, torch.int64, 2).shape[0]
    if rows_now.shape[1] != width:
        raise ValueError(f"rows_now: expected shape [K, {width}]; got {list(rows_now.shape)}")
    check_table("count_now", count_now, torch.int32, 1, (clients,))
    check_dense("rows_now", rows_now, 1)
    for name, t in ("rows", rows), ("count", count), ("count_now", count_now):
        check_dense(name, t, 0)
    native.called(FEED)(rows, count, rows_now, count_now)


def turn(table: Tensor, now: Tensor) -> None:
    """In a plan: `now = table[step]`, the last number where there are fewer steps. `[T]`, `[K]`

    Both float32 or float64, and contiguous.
    Raises TypeError/ValueError naming the argument.
    """
    check_numbers("table", table)
    if not len(table):
        raise ValueError("table: expected [T] with T > 0; got [0]")
    check_table("now", now, table.dtype, 1)
    for name, t in ("table", table), ("now", now):
        check_dense(name, t, 0)
    native.called(TURN)(table, now)


def tally(losses: Tensor, count: Tensor, total: Tensor) -> None:
    """In a plan: `total += losses count`, from 0 at step 0. `[K]`: any float, int32, float64.

    Raises TypeError/ValueError naming the argument.
    """
    check_numbers("losses", losses)
    check_table("count", count, torch.int32, 1, losses.shape)
    check_table("total", total, torch.float64, 1, losses.shape)
    for name, t in ("losses", losses), ("count", count), ("total", total):
        check_dense(name, t, 0)
    native.called(TALLY)(losses, count, total)
