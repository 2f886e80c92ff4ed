"""Rows copied between tables of different dtypes, of which one pass is left in C++.

No operation: no run computes with it. Rows that clients keep are stored so by a thread beside the
training (`fedfast.row_memory`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import native

AVAILABLE = hasattr(native.module, "round_rows")


def copy_rows(source: Tensor, at: Tensor, into: Tensor, places: Tensor) -> None:
    """`into[places] = source[at]`, rounded to the nearest of `into`'s dtype, ties to even.

    source, into  [.., width], elements of a row side by side, no memory of both
    at, places    [n] int64 on the CPU, within the tables
    """
    name = {
        (torch.float32, torch.bfloat16): "round_rows",
        (torch.bfloat16, torch.float32): "widen_rows",
    }.get((source.dtype, into.dtype))
    on_cpu = source.device.type == into.device.type == "cpu"
    if name is None or not AVAILABLE or not on_cpu or source.stride(1) != 1 or into.stride(1) != 1:
        into[places] = source[at].to(into.dtype)
        return
    if source.shape[1] != into.shape[1] or len(at) != len(places):
        raise ValueError(f"rows: expected as many as wide; got {source.shape} and {into.shape}")
    pairs = ((source, at), (into, places))
    tables = [(table.data_ptr(), table.stride(0), _checked(rows, table)) for table, rows in pairs]
    getattr(native.module, name)(*tables, len(at), source.shape[1])


def _checked(rows: Tensor, table: Tensor) -> int:
    """The address of row numbers that lie in the table."""
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(table):
        raise IndexError(f"rows: expected 0 to {len(table) - 1}, got {rows.tolist()[:8]}")
    assert rows.dtype == torch.int64 and rows.is_contiguous()
    return rows.data_ptr()
