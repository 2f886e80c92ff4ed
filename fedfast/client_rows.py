"""Places for clients' rows and values, which both tables of a `ClientState` point into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from .row_memory import reserved
from .row_staging import StagedTables
from .row_tables import BLANK, DirectTables, RowShape, RowTables
from .row_tiers import RowTier

CPU = torch.device("cpu")


class ClientRows:
    """Rows and values by place; place 0 is blank: it holds what everybody starts with.

    first   name -> kind of the rows
    stored  the dtype rows are kept in
    stale   ids of clients whose places in the two tables may differ
    values  name -> [places, ...]
    """

    def __init__(
        self,
        rows: Mapping[str, str],
        values: Mapping[str, Tensor],
        row: Tensor,
        trained: int,
        population: int,
        tier: RowTier,
    ) -> None:
        self.first, self.device, self.stale, self.tier = dict(rows), row.device, no_ids(), tier
        self.initial = row.clone() if "model" in self.first.values() else None
        self.default = {name: v.to(row.device) for name, v in values.items()}
        widths = {n: len(row) if kind == "model" else trained for n, kind in rows.items()}
        self.shape = RowShape(widths, row.dtype, row.device)
        self.population = population
        self._make()

    def _make(self) -> None:
        # No more are ever in use: everybody's, and a spare one for each of a cohort.
        places = 2 * self.population + 1
        if self.tier.staged(self.shape.dtype):
            self.tables: RowTables = StagedTables(self.shape, self.tier)
        else:
            here = self.device.type == "cpu"
            self.tables = DirectTables(self.shape, places if here else self.tier.places + 1)
        self.values = {
            name: reserved((places, *v.shape), v.dtype, self.device)
            for name, v in self.default.items()
        }
        for name, v in self.default.items():
            self.values[name][BLANK] = v
        for name, kind in self.first.items():
            if kind == "model" and self.initial is not None:
                self.tables.tables[name][BLANK] = self.initial

    def widen(self, population: int, empty: bool) -> None:
        """There may be so many clients; tables that hold nothing yet are reserved for them."""
        if population > self.population:
            self.population = population
            if empty:
                self._make()

    @property
    def stored(self) -> torch.dtype:
        """The dtype that rows are kept in."""
        return self.tier.dtype or self.shape.dtype

    def allocate(self, places: int) -> None:
        """Make sure of so many places."""
        self.tables.allocate(places)
        for name, held in self.values.items():
            if places > len(held):
                grown = reserved((2 * places, *held.shape[1:]), held.dtype, held.device)
                grown[: len(held)] = held
                self.values[name] = grown

    def start_with(self, start: Tensor) -> None:
        """The model [trained] that "start" rows of new clients begin with."""
        for name, kind in self.first.items():
            if kind == "start":
                self.tables.tables[name][BLANK] = start

    def read(self, places: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Copies of the rows and values at places [n]."""
        at = places.to(self.device)
        rows = {name: self.tables.read(name, places) for name in self.first}
        return rows, {name: held[at] for name, held in self.values.items()}

    def write(
        self, places: Tensor, rows: Mapping[str, Tensor], values: Mapping[str, Tensor]
    ) -> None:
        """Rows and values from outside of a round."""
        for name in self.first:
            self.tables.write(name, places, rows[name])
        self.write_values(places, values)

    def write_values(self, places: Tensor, values: Mapping[str, Tensor]) -> None:
        """Small state at places [n]."""
        at = places.to(self.device)
        for name in self.default:
            self.values[name][at] = values[name].to(self.device)

    def another(self) -> ClientRows:
        """Of the same make, with nothing in it."""
        made = ClientRows.__new__(ClientRows)
        made.__dict__.update(self.__dict__)
        made.stale = no_ids()
        made._make()
        return made

    def fill(self, name: str, first: int, blocks: Iterable[Tensor]) -> None:
        """Rows, block by block, from place `first` on."""
        for block in blocks:
            places = torch.arange(first, first + len(block))
            self.tables.write(name, places, block)
            first += len(block)


def no_ids() -> Tensor:
    """[0] int64."""
    return torch.empty(0, dtype=torch.int64)
