"""Where clients' rows lie while they are worked on: the tables that `PlacedRows` point into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .row_memory import reserved
from .shared_memory import PlacedFile, SharedMemory
from .transfers import sent_to

BLANK = 0  # the place of what clients hold that never took part


@dataclass(frozen=True)
class RowShape:
    """Rows of a run.

    widths  name -> elements of a row
    dtype   in which rows are worked on, device on which
    """

    widths: Mapping[str, int]
    dtype: torch.dtype
    device: torch.device


class RowTables(Protocol):
    """Rows by place, for a cohort at a time.

    tables  name -> [n, width], read and written at the rows that `begin` names; row 0 is blank
    """

    tables: dict[str, Tensor]

    def allocate(self, places: int) -> None:
        """Make sure of so many places. Raises OSError/MemoryError where there is no room."""

    def begin(self, side: int, came: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Rows in `tables` of what lies at the places `came` [C], and of what will at `kept` [C].

        side  0 or 1, of the state that is written: the other one's rows stay
        """

    def expect(self, places: Tensor) -> None:
        """What lies there is asked for by the next `begin`."""

    def written(self, side: int, rows: Tensor, kept: Tensor) -> None:
        """Rows of `tables` are complete: they belong to the places `kept`."""

    def flush(self) -> None:
        """Wait until all that was complete is stored. Raises OSError where that failed."""

    def read(self, name: str, places: Tensor) -> Tensor:
        """A copy in the dtype that rows are stored in. [n, width]"""

    def write(self, name: str, places: Tensor, rows: Tensor) -> None:
        """Rows from outside of a round, [n, width]."""

    def files(self) -> dict[str, PlacedFile]:
        """The files that other processes find the rows in; nothing where they are in none."""


class DirectTables:
    """Rows worked on where they are stored: a place is a row of the table.

    On the CPU tables are reserved for `most` places, and take memory as they are written.
    Elsewhere, and where there is no address space for that, they are made for the places that are
    `expected`, and copied into larger ones where that was not enough.

    shared  whether other processes may open them; there is no larger one then
    """

    def __init__(self, shape: RowShape, expected: int, most: int, shared: bool = False) -> None:
        self.shape = shape
        self._shared: dict[str, SharedMemory] = {}
        if shared:
            self._shared = {
                name: SharedMemory((most, width), shape.dtype)
                for name, width in shape.widths.items()
            }
            self.tables = {name: held.tensor for name, held in self._shared.items()}
            return
        try:
            self._make(most if shape.device.type == "cpu" else expected)
        except MemoryError:  # under `ulimit -v`, or where the system commits what is reserved
            self._make(expected)

    def _make(self, places: int) -> None:
        self.tables = {
            name: reserved((places, width), self.shape.dtype, self.shape.device)
            for name, width in self.shape.widths.items()
        }

    def allocate(self, places: int) -> None:
        """Make sure of so many places."""
        for name, held in self.tables.items():
            if places > len(held):
                grown = reserved((2 * places, held.shape[1]), held.dtype, held.device)
                grown[: len(held)] = held
                self.tables[name] = grown

    def begin(self, side: int, came: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """The places themselves."""
        return sent_to(came, self.shape.device), sent_to(kept, self.shape.device)

    def expect(self, places: Tensor) -> None:
        """Everything is here already."""

    def written(self, side: int, rows: Tensor, kept: Tensor) -> None:
        """They are where they belong."""

    def flush(self) -> None:
        """Nothing is on its way."""

    def read(self, name: str, places: Tensor) -> Tensor:
        """A copy, [n, width]."""
        return self.tables[name][sent_to(places, self.shape.device)]

    def write(self, name: str, places: Tensor, rows: Tensor) -> None:
        """Rows from outside of a round, [n, width]."""
        self.tables[name][sent_to(places, self.shape.device)] = rows.to(self.shape.device)

    def files(self) -> dict[str, PlacedFile]:
        """See `RowTables`."""
        return {
            name: PlacedFile(held.about.number, held.tensor.stride(0) * held.tensor.itemsize)
            for name, held in self._shared.items()
        }
