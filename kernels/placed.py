"""`PlacedRows`: rows of a table in an order of one's own, read and written where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._scalars import kind_of


@dataclass(frozen=True, eq=False)
class PlacedRows:
    """An operand `[K, S]` whose row k is `table[places[k]]`; nothing is gathered.

    table   [n, S], elements of a row side by side
    places  [K] int64, contiguous, on the same device, each in [0, n); of an operand that is
            written all different. It may be overwritten by other such places later: a recorded
            `Plan` reads it anew at every run

    Raises TypeError/ValueError naming the part for other dtypes, shapes, devices or places.
    """

    table: Tensor
    places: Tensor

    def __post_init__(self) -> None:
        _check_table(self.table)
        _check_places(self.places, self.table)

    @classmethod
    def known(cls, table: Tensor, places: Tensor) -> PlacedRows:
        """The same unchecked: where every step has them anew, of places checked before."""
        made = cls.__new__(cls)
        made.__dict__.update(table=table, places=places)
        return made

    def __getitem__(self, first: slice) -> PlacedRows:
        """Some of the clients, as of a tensor `[K, S]`."""
        return PlacedRows.known(self.table, self.places[first])

    def only(self, clients: Tensor) -> PlacedRows:
        """Some of the clients, by position [n] int64."""
        return PlacedRows.known(self.table, self.places[clients])

    def __len__(self) -> int:
        return self.places.shape[0]

    @property
    def shape(self) -> torch.Size:
        """[K, S]"""
        return torch.Size((self.places.shape[0], self.table.shape[1]))

    @property
    def ndim(self) -> int:
        """2"""
        return 2

    @property
    def dtype(self) -> torch.dtype:
        """Of the table."""
        return self.table.dtype

    @property
    def device(self) -> torch.device:
        """Of the table."""
        return self.table.device

    @property
    def is_cuda(self) -> bool:
        """Whether the table is on a GPU."""
        return self.table.is_cuda

    def numel(self) -> int:
        """K S"""
        return self.places.shape[0] * self.table.shape[1]

    def gathered(self) -> Tensor:
        """A copy, `[K, S]`."""
        return self.table.index_select(0, self.places)

    def copy_(self, rows: Tensor | PlacedRows) -> PlacedRows:
        """Write rows `[K, S]`, or a row `[S]` for all."""
        new = dense(rows)
        self.table.index_copy_(0, self.places, new.expand(self.shape))
        return self


RowsLike = Tensor | PlacedRows


def dense(rows: RowsLike) -> Tensor:
    """The same rows as a tensor; a copy of placed ones."""
    return rows.gathered() if isinstance(rows, PlacedRows) else rows


def _check_table(table: object) -> None:
    if not isinstance(table, Tensor):
        raise TypeError(f"table: expected a tensor [n, S]; got {kind_of(table)}")
    if table.ndim != 2 or (table.stride(1) != 1 and table.shape[1] > 1):
        raise ValueError(
            "table: expected [n, S], elements of a row side by side; got shape "
            f"{list(table.shape)}, strides {table.stride()}"
        )


def _check_places(places: object, table: Tensor) -> None:
    if not isinstance(places, Tensor) or places.dtype != torch.int64:
        found = places.dtype if isinstance(places, Tensor) else kind_of(places)
        raise TypeError(f"places: expected a tensor [K] of torch.int64; got {found}")
    if places.ndim != 1 or not places.is_contiguous() or places.device != table.device:
        raise ValueError(
            f"places: expected a contiguous [K] on {table.device}; got {list(places.shape)}, "
            f"strides {places.stride()}, on {places.device}"
        )
    if places.device.type == "meta" or not len(places):
        return
    low, high = (int(end) for end in places.aminmax())
    if low < 0 or high >= len(table):
        raise ValueError(f"places: expected numbers in [0, {len(table)}); got {low} to {high}")
