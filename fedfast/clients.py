"""What clients keep between rounds: rows and small values, written beside the ones that hold.

A round never overwrites what a client came with: its new rows go to spare places of the same
tables, and a second table of places holds where they are. The one that is referred to is the
state; the other one is the next round's to write. `state.Committed` turns from one to the other by
one assignment, so that a round which is broken off anywhere leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .client_places import ClientPlaces, CohortPlaces
from .client_rows import NEVER, SharedRows, no_ids
from .kernels import PlacedRows
from .phases import timed
from .row_blocks import Part, RowsInBlocks, blocks_of
from .transfers import sent_to

Kept = tuple[Tensor, Mapping[str, Part], Mapping[str, Tensor]]


class ClientState(ClientPlaces):
    """Rows and small values of every client, kept from the round in which it first takes part.

    rows    name -> "zeros", "start" or "model", see `Component.client_rows`
    values  name -> what every client starts with
    row     [S], the initial model
    tier    where rows are kept
    on_host names of values that stay on the CPU
    Memory grows with the clients that have taken part, not with the population; a cohort's rows
    have a spare place each.
    """

    _other: ClientState

    @timed("state")
    def begin(self, ids: Tensor, start: Tensor | None) -> ClientState:
        """The state that a round of clients `ids` [C] writes; this one stays as it is.

        start  [trained], the model sent, for rows that begin with it; None: all will be written
        Whatever an earlier round that was broken off has written is overwritten.
        Raises OSError, naming the option, where the disk that rows lie on is full.
        """
        if self._other is self:
            return self
        after, store = self._other, self._store
        store.generations[after._side] = NEVER
        after.generation = self.generation + 1
        # Recorded before anything is written: where the two tables may differ.
        store.stale = torch.cat([store.stale, ids])
        after.slot[store.stale] = self.slot[store.stale]
        held, again = self._held(ids), self.free[: len(ids)]
        top = self.top + len(ids) - len(again)
        store.allocate(top)
        new = torch.cat([again, torch.arange(self.top, top)])
        after.slot[ids] = new
        after._set(after.slot, torch.cat([self.free[len(ids) :], held[held > 0]]), top)
        store.stale = ids
        if start is not None:
            store.start_with(start)
        after._cohort = self._places(ids, held, new)
        return after

    def _held(self, ids: Tensor) -> Tensor:
        """The places of what clients come with, adopted rows first."""
        held, (known, places) = self.slot[ids], self._adopted
        if len(known):
            at = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
            held = torch.where(known[at] == ids, places[at], held)
        return held

    def _places(self, ids: Tensor, held: Tensor, new: Tensor) -> CohortPlaces:
        came, kept = self._store.tables.begin(1 - self._side, held, new)
        ordered, order = ids.sort()
        return CohortPlaces(ordered, order, came, kept, held, new)

    def expect(self, ids: Tensor) -> None:
        """Clients `ids` [C] take part in the round after the one that has begun."""
        cohort = self._other._cohort
        if self._other is self or cohort is None:
            return
        away = ids[~torch.isin(ids, cohort.ids)]
        places = self._other.slot[away]  # of those too whom another process keeps from now on: none
        self._store.tables.expect(places[places > 0])

    def cohort(self) -> CohortPlaces:
        """Where the clients have their rows, of the state that `begin` gave."""
        assert self._cohort is not None
        return self._cohort

    @timed("state")
    def placed(self, ids: Tensor, room: Tensor) -> tuple[dict[str, PlacedRows], ...]:
        """(rows that clients `ids` [K] came with, rows that they will keep), by name.

        room  [2, K or more] int64 on the device, which holds the places
        """
        if not self.tables:
            return {}, {}
        cohort, made = self.cohort(), []
        at = cohort.at(ids)
        for where, places in zip((cohort.came, cohort.kept), room[:, : len(ids)], strict=True):
            places.copy_(where[sent_to(at, where.device)])
            made.append({n: PlacedRows.known(t, places) for n, t in self.tables.items()})
        return tuple(made)

    @timed("state")
    def gather(self, ids: Tensor, into: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy the rows that clients `ids` [K] came with to `into`, [K, width] by name.

        Of the state that `begin` gave, for clients of its cohort. Returns their values.
        """
        store = self._store
        if self._other is self:
            return {}
        cohort = self.cohort()
        at = cohort.at(ids)
        if into:
            rows = cohort.came[sent_to(at, store.device)]
            for name, out in into.items():
                torch.index_select(self.tables[name], 0, rows, out=out)
        return store.values_at(cohort.held[at])

    @timed("state")
    def scatter(
        self, ids: Tensor, rows: Mapping[str, Tensor], values: Mapping[str, Tensor]
    ) -> None:
        """Write the new rows and values of clients `ids` [K], of the state that `begin` gave.

        Rows that are not given were written where they lie.
        """
        if self._other is self:
            return
        cohort, store = self.cohort(), self._store
        at = cohort.at(ids)
        kept, new = cohort.kept[sent_to(at, store.device)], cohort.new[at]
        for name, own in rows.items():
            self.tables[name].index_copy_(0, kept, own)
        store.write_values(new, values)
        store.tables.written(self._side, kept, new)

    def with_state(self, client: int, state: Mapping[str, Tensor]) -> ClientState:
        """The state in which one client holds `state`, which `state_of` gave; empty: nothing.

        This one stays as it is.
        """
        ids = torch.tensor([client])
        if state:
            after, store = self.begin(ids, None), self._store
            rows, values = ({n: state[n][None] for n in of} for of in (store.first, store.default))
            after.scatter(ids, rows, values)
            return after
        after = self.begin(no_ids(), None)
        if after is not self:
            after.drop(ids)
        return after

    # Rows that move between processes, each of which holds some of the clients'.

    def export(self, ids: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Copies of the rows [K, width] and values [K, ...] of clients that `holds` names."""
        return self._store.read(self.slot[ids])

    def adopt(self, ids: Tensor, rows: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        """Rows and values, which `export` gave elsewhere, that clients of the next round come with.

        What is committed stays as it is; called again, what was adopted before is forgotten.
        """
        (_, places), self._adopted = self._adopted, (no_ids(), no_ids())
        free, top = torch.cat([self.free, places]), self.top
        new = torch.cat([free[: len(ids)], torch.arange(top, top + max(0, len(ids) - len(free)))])
        self.free, self.top = free[len(ids) :], max(top, top + len(ids) - len(free))
        if len(ids):
            self._store.allocate(self.top)
            self._store.write(new, rows, values)
        order = ids.argsort()
        self._adopted = ids[order], new[order]

    def drop(self, ids: Tensor) -> None:
        """Forget clients that another process keeps from now on; of the state that `begin` gave."""
        held = self.slot[ids]
        self._store.stale = torch.cat([self._store.stale, ids])
        self.slot[ids] = 0
        self.free = torch.cat([self.free, held[held > 0]])

    @timed("state")
    def seal(self) -> None:
        """What a round has written is complete: other processes may take it from here."""
        self.flush()
        self._store.generations[self._side] = self.generation

    def places(self) -> SharedRows | None:
        """Where other processes find all this; None where the tier is not shared."""
        return self._store.places() if self._store.tier.shared else None

    def kept(self) -> Kept:
        """(ids [U], rows [U, width] by name, values [U, ...] by name) of who has any, by id.

        Rows come in blocks: no memory may hold them at once.
        """
        ids = self.kept_ids()
        rows = {name: self._in_blocks(name, ids, like) for name, like in self.row_kinds().items()}
        return ids, rows, self.values_of(ids)

    def _in_blocks(self, name: str, ids: Tensor, like: Tensor) -> RowsInBlocks:
        def read(begin: int, end: int) -> Tensor:
            return self.rows_of(name, ids[begin:end]).cpu()

        return RowsInBlocks(like.dtype, torch.Size((len(ids), *like.shape)), read)

    def holding(
        self, ids: Tensor, rows: Mapping[str, Part], values: Mapping[str, Tensor]
    ) -> ClientState:
        """Another state of the same make that holds what `kept` gave; this one stays as it is.

        rows  [U, width] by name, tensors or what comes in blocks
        """
        made = ClientState.__new__(ClientState)
        made._store = self._store.another()
        slot, places = made._store.slots[0], torch.arange(1, len(ids) + 1)
        slot[ids] = places
        made._side = made.generation = 0
        made._set(slot, no_ids(), len(ids) + 1)
        if len(ids):
            made._store.allocate(made.top)
            for name in made.first:
                made._store.fill(name, 1, blocks_of(rows[name]))
            made._store.write_values(places, values)
        made._other = made if self._other is self else made._twin()
        return made
