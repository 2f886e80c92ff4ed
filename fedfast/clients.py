"""What clients keep between rounds: rows and small values, written beside the ones that hold.

A round never overwrites what a client came with: its new rows go to spare places of the same banks,
and a second table of places says where. The table that is referred to is the state; the other one
is the next round's to write. Turning from one to the other is one assignment of whoever refers to
it (`state.Committed`), so that a round which is broken off anywhere leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

GROWTH = 64  # places made at first; then twice as many each time


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
        self._banks = _Banks(rows, values, row, trained)
        self._set(torch.full((population,), -1, dtype=torch.int64), _none(), 0)
        # A state of nothing has no other: there is nothing to write beside it.
        self._other = self._twin() if rows or values else self

    def _set(self, slot: Tensor, free: Tensor, top: int) -> None:
        """slot [N]: each client's place, -1 for none; free: places below `top` that are nobody's"""
        self.slot, self.free, self.top = slot, free, top

    def _twin(self) -> ClientState:
        made = ClientState.__new__(ClientState)
        made._banks, made._other = self._banks, self
        made._set(self.slot.clone(), self.free, self.top)
        return made

    @property
    def first(self) -> Mapping[str, str]:
        """name -> kind of the rows."""
        return self._banks.first

    @property
    def rows(self) -> dict[str, Tensor]:
        """The banks, place by place. [places, width]"""
        return self._banks.rows

    @property
    def values(self) -> dict[str, Tensor]:
        """Every client's values, a copy. [N, ...]"""
        default, population = self._banks.default, len(self.slot)
        everybody = torch.arange(population)
        made = {name: v.expand(population, *v.shape).clone() for name, v in default.items()}
        for name, found in self.values_of(everybody).items():
            made[name].copy_(found)
        return made

    def values_of(self, ids: Tensor) -> dict[str, Tensor]:
        """The values of clients `ids` [K]: copies, [K, ...]."""
        slots, banks = self.slot[ids], self._banks
        at = slots.clamp(min=0).to(banks.device)
        new = (slots < 0).to(banks.device)
        found = {}
        for name, default in banks.default.items():
            some = banks.values[name][at] if self.top else default.expand(len(ids), *default.shape)
            shape = (-1, *[1] * default.ndim)
            found[name] = torch.where(new.view(shape), default, some)
        return found

    def begin(self, ids: Tensor, start: Tensor) -> ClientState:
        """The state that a round of clients `ids` [C] writes; this one stays as it is.

        start  [trained], the model sent, for rows that begin with it
        Whatever an earlier round that was broken off has written is overwritten.
        """
        if self._other is self:
            return self
        after, banks = self._other, self._banks
        # Noted before anything is written: where the two tables may differ.
        banks.stale = torch.cat([banks.stale, ids])
        after.slot[banks.stale] = self.slot[banks.stale]
        held, again = self.slot[ids], self.free[: len(ids)]
        top = self.top + len(ids) - len(again)
        slots = torch.cat([again, torch.arange(self.top, top)])
        after.slot[ids] = slots
        after.free, after.top = torch.cat([self.free[len(ids) :], held[held >= 0]]), top
        banks.stale = ids
        banks.grow(top, len(self.slot) + len(ids))
        banks.begin(slots[held < 0], start)
        return after

    def gather(self, ids: Tensor, into: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy the rows that clients `ids` [K] came with to banks [K, width]; returns their values.

        Of the state that `begin` gave, for clients of its cohort.
        """
        came = self._other.slot[ids]
        slots = torch.where(came < 0, self.slot[ids], came).to(self._banks.device)
        for name, bank in into.items():
            torch.index_select(self._banks.rows[name], 0, slots, out=bank)
        return {name: bank[slots] for name, bank in self._banks.values.items()}

    def scatter(
        self, ids: Tensor, rows: Mapping[str, Tensor], values: Mapping[str, Tensor]
    ) -> None:
        """Write the new rows and values of clients `ids` [K], of the state that `begin` gave."""
        slots = self.slot[ids].to(self._banks.device)
        for name, bank in rows.items():
            self._banks.rows[name].index_copy_(0, slots, bank)
        for name, v in values.items():
            self._banks.values[name].index_copy_(0, slots, v)

    def row(self, name: str, client: int) -> Tensor | None:
        """One client's row [width]; if it never took part, the initial model or None."""
        slot = int(self.slot[client])
        if slot < 0:
            return self._banks.initial if self.first[name] == "model" else None
        return self._banks.rows[name][slot]

    def kept(self) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """(ids [U], rows [U, width] by name, values [U, ...] by name) of who has any, by id."""
        ids = (self.slot >= 0).nonzero()[:, 0]
        at = self.slot[ids].to(self._banks.device)
        rows = {name: bank[at] for name, bank in self._banks.rows.items()}
        return ids, rows, {name: bank[at] for name, bank in self._banks.values.items()}

    def holding(
        self, ids: Tensor, rows: Mapping[str, Tensor], values: Mapping[str, Tensor]
    ) -> ClientState:
        """Another state of the same make that holds what `kept` gave; this one stays as it is."""
        made = ClientState.__new__(ClientState)
        made._banks = self._banks.filled(rows, values)
        slot = torch.full_like(self.slot, -1)
        slot[ids] = torch.arange(len(ids))
        made._set(slot, _none(), len(ids))
        made._other = made if self._other is self else made._twin()
        return made


class _Banks:
    """Places for rows and values, which both tables of a `ClientState` point into.

    stale  ids of clients whose places in the two tables may differ
    """

    def __init__(
        self, rows: Mapping[str, str], values: Mapping[str, Tensor], row: Tensor, trained: int
    ) -> None:
        self.first, self.device, self.stale = dict(rows), row.device, _none()
        self.initial = row.clone() if "model" in self.first.values() else None
        self.default = {name: v.to(row.device) for name, v in values.items()}
        self.rows = {
            name: row.new_zeros(0, len(row) if kind == "model" else trained)
            for name, kind in rows.items()
        }
        self.values = {name: v.new_empty(0, *v.shape) for name, v in self.default.items()}

    def grow(self, places: int, limit: int) -> None:
        """Make room for so many places; `limit`: there will never be more."""
        for banks in (self.rows, self.values):
            for name, held in banks.items():
                if places > len(held):
                    room = max(places, min(max(GROWTH, 2 * len(held)), limit))
                    grown = held.new_empty(room, *held.shape[1:])
                    grown[: len(held)] = held
                    banks[name] = grown

    def begin(self, slots: Tensor, start: Tensor) -> None:
        """What clients hold that never took part."""
        at = slots.to(self.device)
        for name, kind in self.first.items():
            held = self.initial if kind == "model" else start
            self.rows[name][at] = 0.0 if kind == "zeros" or held is None else held
        for name, default in self.default.items():
            self.values[name][at] = default

    def filled(self, rows: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> _Banks:
        """The same with other contents."""
        made = _Banks.__new__(_Banks)
        made.first, made.device, made.stale = self.first, self.device, _none()
        made.initial, made.default = self.initial, self.default
        made.rows = {name: rows[name].to(self.device, copy=True) for name in self.rows}
        made.values = {name: values[name].to(self.device, copy=True) for name in self.values}
        return made


def _none() -> Tensor:
    return torch.empty(0, dtype=torch.int64)
