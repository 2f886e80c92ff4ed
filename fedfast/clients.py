"""What clients keep between rounds: rows and small values, written beside the ones that hold.

A round never overwrites what a client came with: its new rows go to spare places of the same
tensors, and a second table of places holds where they are. The table that is referred to is the
state; the other one is the next round's to write. `state.Committed` turns from one to the other by
one assignment, so that a round which is broken off anywhere leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .client_rows import ClientRows, no_ids


class ClientState:
    """Rows and small values of every client, kept from the round in which it first takes part.

    rows    name -> "zeros", "start" or "model", see `Component.client_rows`
    values  name -> what every client starts with
    row     [S], the initial model
    Memory grows with the clients that have taken part, not with the population; a cohort's rows
    have a spare place each.
    """

    def __init__(
        self,
        rows: Mapping[str, str],
        values: Mapping[str, Tensor],
        population: int,
        row: Tensor,
        trained: int,
    ) -> None:
        self._store = ClientRows(rows, values, row, trained)
        self._set(torch.full((population,), -1, dtype=torch.int64), no_ids(), 0)
        # A state of nothing has no other: there is nothing to write beside it.
        self._other = self._twin() if rows or values else self

    def _set(self, slot: Tensor, free: Tensor, top: int) -> None:
        """slot [N]: each client's place, -1 for none; free: places below `top` that are nobody's"""
        self.slot, self.free, self.top = slot, free, top

    def _twin(self) -> ClientState:
        made = ClientState.__new__(ClientState)
        made._store, made._other = self._store, self
        made._set(self.slot.clone(), self.free, self.top)
        return made

    @property
    def first(self) -> Mapping[str, str]:
        """name -> kind of the rows."""
        return self._store.first

    @property
    def rows(self) -> dict[str, Tensor]:
        """The rows, place by place. [places, width]"""
        return self._store.rows

    @property
    def values(self) -> dict[str, Tensor]:
        """Every client's values, a copy. [N, ...]"""
        default, population = self._store.default, len(self.slot)
        everybody = torch.arange(population)
        made = {name: v.expand(population, *v.shape).clone() for name, v in default.items()}
        for name, found in self.values_of(everybody).items():
            made[name].copy_(found)
        return made

    def values_of(self, ids: Tensor) -> dict[str, Tensor]:
        """The values of clients `ids` [K]: copies, [K, ...]."""
        slots, store = self.slot[ids], self._store
        at = slots.clamp(min=0).to(store.device)
        new = (slots < 0).to(store.device)
        found = {}
        for name, default in store.default.items():
            some = store.values[name][at] if self.top else default.expand(len(ids), *default.shape)
            shape = (-1, *[1] * default.ndim)
            found[name] = torch.where(new.view(shape), default, some)
        return found

    def begin(self, ids: Tensor, start: Tensor | None) -> ClientState:
        """The state that a round of clients `ids` [C] writes; this one stays as it is.

        start  [trained], the model sent, for rows that begin with it; None: all will be written
        Whatever an earlier round that was broken off has written is overwritten.
        """
        if self._other is self:
            return self
        after, store = self._other, self._store
        # Recorded before anything is written: where the two tables may differ.
        store.stale = torch.cat([store.stale, ids])
        after.slot[store.stale] = self.slot[store.stale]
        held, again = self.slot[ids], self.free[: len(ids)]
        top = self.top + len(ids) - len(again)
        slots = torch.cat([again, torch.arange(self.top, top)])
        after.slot[ids] = slots
        after.free, after.top = torch.cat([self.free[len(ids) :], held[held >= 0]]), top
        store.stale = ids
        store.grow(top, len(self.slot) + len(ids))
        store.begin(slots[held < 0], start)
        return after

    def gather(self, ids: Tensor, into: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy the rows that clients `ids` [K] came with to `into`, [K, width] by name.

        Of the state that `begin` gave, for clients of its cohort. Returns their values.
        """
        came = self._other.slot[ids]
        slots = torch.where(came < 0, self.slot[ids], came).to(self._store.device)
        for name, out in into.items():
            torch.index_select(self._store.rows[name], 0, slots, out=out)
        return {name: v[slots] for name, v in self._store.values.items()}

    def scatter(
        self, ids: Tensor, rows: Mapping[str, Tensor], values: Mapping[str, Tensor]
    ) -> None:
        """Write the new rows and values of clients `ids` [K], of the state that `begin` gave."""
        slots = self.slot[ids].to(self._store.device)
        for name, new in rows.items():
            self._store.rows[name].index_copy_(0, slots, new)
        for name, v in values.items():
            self._store.values[name].index_copy_(0, slots, v)

    def widen(self, population: int) -> None:
        """Make room for clients up to that number, who have not taken part yet."""
        for table in (self, self._other):
            if population > len(table.slot):
                more = table.slot.new_full((population - len(table.slot),), -1)
                table.slot = torch.cat([table.slot, more])

    def kinds(self) -> dict[str, Tensor]:
        """A client's rows and values by name, for their shapes."""
        store = self._store
        rows = {name: t.new_empty(t.shape[1:]) for name, t in store.rows.items()}
        return {**rows, **store.default}

    def state_of(self, client: int) -> dict[str, Tensor]:
        """Copies of one client's rows and values by name; nothing where it never took part."""
        slot = int(self.slot[client])
        held = {**self._store.rows, **self._store.values} if slot >= 0 else {}
        return {name: t[slot].clone() for name, t in held.items()}

    def with_state(self, client: int, state: Mapping[str, Tensor]) -> ClientState:
        """The state in which one client holds `state`, which `state_of` gave; empty: nothing.

        This one stays as it is.
        """
        ids = torch.tensor([client])
        if state:
            after = self.begin(ids, None)
            rows, values = self._store.rows, self._store.values
            after.scatter(
                ids, {n: state[n][None] for n in rows}, {n: state[n][None] for n in values}
            )
            return after
        after, held = self.begin(no_ids(), None), self.slot[ids]
        if after is not self and int(held) >= 0:
            self._store.stale = ids
            after.slot[ids], after.free = -1, torch.cat([after.free, held])
        return after

    def row(self, name: str, client: int) -> Tensor | None:
        """One client's row [width]; if it never took part, the initial model or None."""
        slot = int(self.slot[client])
        if slot < 0:
            return self._store.initial if self.first[name] == "model" else None
        return self._store.rows[name][slot]

    def kept(self) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """(ids [U], rows [U, width] by name, values [U, ...] by name) of who has any, by id."""
        ids = (self.slot >= 0).nonzero()[:, 0]
        at = self.slot[ids].to(self._store.device)
        rows = {name: held[at] for name, held in self._store.rows.items()}
        return ids, rows, {name: held[at] for name, held in self._store.values.items()}

    def holding(
        self, ids: Tensor, rows: Mapping[str, Tensor], values: Mapping[str, Tensor]
    ) -> ClientState:
        """Another state of the same make that holds what `kept` gave; this one stays as it is."""
        made = ClientState.__new__(ClientState)
        made._store = self._store.filled(rows, values)
        slot = torch.full_like(self.slot, -1)
        slot[ids] = torch.arange(len(ids))
        made._set(slot, no_ids(), len(ids))
        made._other = made if self._other is self else made._twin()
        return made
