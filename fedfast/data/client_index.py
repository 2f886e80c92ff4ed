"""Which rows each client owns, as one array and the clients' sizes, from any form of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .._messages import format_value
from ._concatenate import by_client, rows_of_client
from .client_parts import ends
from .tensors import as_dense

Ints = NDArray[np.int64]
Index = tuple[Ints, Ints]  # rows, client after client, and how many each has


def index_of(indices: object, n: int) -> Index:
    """(order [m], sizes [N]) of `FederatedData.from_index`'s indices into `n` samples: a copy.

    Raises TypeError/ValueError naming the client.
    """
    if isinstance(indices, np.ndarray | Tensor) and indices.ndim == 2 and len(indices):
        table = _matrix(indices)
        if table is not None:
            sizes = np.full(len(table), table.shape[1], dtype=np.int64)
            return _checked(table.reshape(-1).astype(np.int64), sizes, n)
    owned = by_client("indices", indices)
    if len(owned) == 0:
        raise ValueError("indices: expected at least one client; got none")
    found = _arrays(owned) or _lists(owned)
    if found is not None:
        return _checked(*found, n)
    rows = [rows_of_client(i, index, n) for i, index in enumerate(owned)]
    return np.concatenate(rows), np.array([row.size for row in rows], dtype=np.int64)


def csr_of(order: object, offsets: object, n: int) -> Index:
    """The same of `FederatedData.from_csr`'s arrays."""
    ptr = _integers("offsets", offsets)
    if ptr.size < 2 or ptr[0] != 0 or (np.diff(ptr) < 0).any():
        raise ValueError(
            "offsets: expected [N + 1] integers from 0 that do not fall; "
            f"got {format_value(ptr[:8].tolist())}{', ...' if ptr.size > 8 else ''}"
        )
    sizes = np.diff(ptr)
    if order is None:
        if ptr[-1] > n:
            raise ValueError(f"offsets: expected at most {n}, the samples; got {ptr[-1]}")
        return np.arange(int(ptr[-1]), dtype=np.int64), sizes
    rows = _integers("order", order)
    if rows.size != ptr[-1]:
        raise ValueError(
            f"offsets: expected to end at {rows.size}, the length of order; got {ptr[-1]}"
        )
    if rows.size and not 0 <= rows.min() <= rows.max() < n:
        wrong = int(np.argmax((rows < 0) | (rows >= n)))
        client = int(np.searchsorted(ptr, wrong, side="right")) - 1
        raise ValueError(
            f"order: client {client}: expected rows in [0, {n}); got {rows[wrong]} at {wrong}"
        )
    return rows, sizes


def _integers(name: str, value: object) -> Ints:
    if isinstance(value, list | tuple):
        array = np.asarray(value) if value else np.empty(0, dtype=np.int64)
    else:
        array = value if isinstance(value, np.ndarray) else as_dense(value, name).cpu().numpy()
    if array.ndim != 1 or not _fits(array):
        raise ValueError(f"{name}: expected integers [m]; got {array.dtype} {list(array.shape)}")
    return array.astype(np.int64)


def _matrix(indices: np.ndarray | Tensor) -> np.ndarray | None:
    table = indices if isinstance(indices, np.ndarray) else indices.detach().cpu().numpy()
    return table if _fits(table) else None


def _fits(array: np.ndarray) -> bool:
    """Whether it holds integers of which none is beyond int64."""
    return array.dtype.kind == "i" or (array.dtype.kind == "u" and array.dtype.itemsize < 8)


def _arrays(owned: Sequence[object]) -> Index | None:
    """Of plain arrays of integers [n_i]; None for anything else."""
    if set(map(type, owned)) != {np.ndarray}:
        return None
    arrays = cast(Sequence[np.ndarray], owned)
    if {(_fits(array), array.ndim) for array in arrays} != {(True, 1)}:
        return None
    sizes = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
    return np.concatenate(arrays).astype(np.int64, copy=False), sizes


def _lists(owned: Sequence[object]) -> Index | None:
    """Of lists (or tuples) of Python's integers; None for anything else."""
    if not set(map(type, owned)) <= {list, tuple}:
        return None
    lists = cast(Sequence[Sequence[object]], owned)
    sizes = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    flat = list(chain.from_iterable(cast(Iterable[Iterable[object]], lists)))
    if set(map(type, flat)) != {int}:
        return None
    try:
        return np.array(flat, dtype=np.int64), sizes
    except OverflowError:
        return None


def _checked(order: Ints, sizes: Ints, n: int) -> Index:
    if order.size and (order.min() < 0 or order.max() >= n):
        wrong = int(np.argmax((order < 0) | (order >= n)))
        at = ends(sizes)
        i = int(np.searchsorted(at, wrong, side="right")) - 1
        rows_of_client(i, order[at[i] : at[i + 1]], n)  # which names it
    return order, sizes
