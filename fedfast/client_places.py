"""Which client has which place in the tables of rows and values, and what lies there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from .client_rows import NEVER, ClientRows, no_ids
from .row_tiers import RowTier

State = TypeVar("State", bound="ClientPlaces")


@dataclass(frozen=True)
class CohortPlaces:
    """Where a round's clients have their rows.

    ids         ascending [C]; order: their positions in what follows
    came, kept  [C], rows of the tables that they came with and that they will keep
    held, new   [C], the places where these are stored
    """

    ids: Tensor
    order: Tensor
    came: Tensor
    kept: Tensor
    held: Tensor
    new: Tensor

    def at(self, ids: Tensor) -> Tensor:
        """Positions of some of the clients."""
        return self.order[torch.searchsorted(self.ids, ids)]


class ClientPlaces:
    """A state of the clients, to be read; `ClientState` writes the one after it.

    Arguments as there.
    """

    def __init__(
        self,
        rows: Mapping[str, str],
        values: Mapping[str, Tensor],
        population: int,
        row: Tensor,
        trained: int,
        tier: RowTier | None = None,
        on_host: frozenset[str] = frozenset(),
    ) -> None:
        tier = RowTier() if tier is None else tier
        self._store = ClientRows(rows, values, row, trained, population, tier, on_host)
        self._set(self._store.slots[0], no_ids(), 1)
        self.generation = 0
        # A state of nothing has no other: there is nothing to write beside it.
        self._other: ClientPlaces = self
        self._side = 0
        if rows or values:
            self._other = self._twin()

    def _set(self, slot: Tensor, free: Tensor, top: int) -> None:
        """slot [N]: each client's place, 0 for none; free: places below `top` that are nobody's"""
        self.slot, self.free, self.top = slot, free, top
        self._adopted = no_ids(), no_ids()  # ids [A], places [A]
        self._cohort: CohortPlaces | None = None

    def _twin(self: State) -> State:
        made = type(self).__new__(type(self))
        made._store, made._other, made._side = self._store, self, 1 - self._side
        slot = self._store.slots[made._side]
        if self.top > 1:
            slot.copy_(self.slot)
        made._set(slot, self.free, self.top)
        made.generation = NEVER
        return made

    @property
    def population(self) -> int:
        """N"""
        return len(self.slot)

    @property
    def first(self) -> Mapping[str, str]:
        """name -> kind of the rows."""
        return self._store.first

    @property
    def tables(self) -> dict[str, Tensor]:
        """The tables that rows are read from and written to in a round. [n, width]"""
        return self._store.tables.tables

    @property
    def values(self) -> dict[str, Tensor]:
        """Every client's values, a copy. [N, ...]"""
        return self.values_of(torch.arange(len(self.slot)))

    def values_of(self, ids: Tensor) -> dict[str, Tensor]:
        """The values of clients `ids` [K]: copies, [K, ...]."""
        return self._store.values_at(self.slot[ids])

    def kinds(self) -> dict[str, Tensor]:
        """A client's rows and values by name, for their shapes."""
        store = self._store
        rows = {name: t.new_empty(t.shape[1:]) for name, t in self.tables.items()}
        return {**rows, **store.default}

    def row_kinds(self) -> dict[str, Tensor]:
        """A client's rows by name, as they are stored: for their shapes and dtype."""
        store = self._store
        return {n: t.new_empty(t.shape[1:], dtype=store.stored) for n, t in self.tables.items()}

    def row(self, name: str, client: int) -> Tensor | None:
        """One client's row [width]; if it never took part, the initial model or None."""
        place = self.slot[client].view(1)
        if int(place) == 0:
            return self._store.initial if self.first[name] == "model" else None
        return self._store.tables.read(name, place)[0].to(self.tables[name])

    def rows_of(self, name: str, ids: Tensor) -> Tensor:
        """Copies of the rows of clients `ids`, who have some, as they are stored. [K, width]"""
        return self._store.tables.read(name, self.slot[ids])

    def state_of(self, client: int) -> dict[str, Tensor]:
        """Copies of one client's rows and values by name; nothing where it never took part."""
        place = self.slot[client].view(1)
        if int(place) == 0:
            return {}
        rows, values = self._store.read(place)
        wide = {name: t[0].to(self._store.shape.dtype) for name, t in rows.items()}
        return wide | {name: t[0] for name, t in values.items()}

    def holds(self, ids: Tensor) -> Tensor:
        """Which of the clients have taken part, here. [K] bool"""
        return self.slot[ids] > 0

    def kept_ids(self) -> Tensor:
        """Who has taken part, ascending. [U]"""
        return self.slot.nonzero()[:, 0]

    def flush(self) -> None:
        """Wait until all rows are where they are kept. Raises OSError where that failed."""
        self._store.tables.flush()

    def widen(self, population: int) -> None:
        """Make room for clients up to that number, who have not taken part yet."""
        self._store.widen(population, self.top == 1)
        for table in (self, self._other):
            if population > len(table.slot):
                more = table.slot.new_zeros(population - len(table.slot))
                table.slot = torch.cat([table.slot, more])
