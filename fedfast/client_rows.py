"""Places for clients' rows and values, which both tables of a `ClientState` point into."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .row_memory import reserved
from .row_staging import StagedTables
from .row_tables import BLANK, DirectTables, RowShape, RowTables
from .row_tiers import RowTier
from .shared_memory import PlacedFile, SharedMemory, SharedTensor
from .transfers import sent_to

CPU = torch.device("cpu")
NEVER = -1  # the generation of a state that is being written


@dataclass(frozen=True)
class SharedRows:
    """Where other processes find what clients keep here.

    process      that has the files
    rows         name -> file of rows in the dtype `stored`, by place
    values       name -> [places, ...]
    slots        for each of the two states [N], clients' places
    generations  [2], which generation each of them is of: how many rounds have renewed clients; -1
                 while it is written
    """

    process: int
    rows: dict[str, PlacedFile]
    widths: Mapping[str, int]
    stored: torch.dtype
    values: dict[str, SharedTensor]
    slots: tuple[SharedTensor, SharedTensor]
    generations: SharedTensor


class ClientRows:
    """Rows and values by place; place 0 is blank: it holds what everybody starts with.

    first   name -> kind of the rows
    stored  the dtype rows are kept in
    stale   ids of clients whose places in the two tables may differ
    values  name -> [places, ...], of those `on_host` on the CPU
    """

    def __init__(
        self,
        rows: Mapping[str, str],
        values: Mapping[str, Tensor],
        row: Tensor,
        trained: int,
        population: int,
        tier: RowTier,
        on_host: frozenset[str],
    ) -> None:
        self.first, self.device, self.stale, self.tier = dict(rows), row.device, no_ids(), tier
        self.initial = row.clone() if "model" in self.first.values() else None
        self.default = {n: v if n in on_host else v.to(row.device) for n, v in values.items()}
        widths = {n: len(row) if kind == "model" else trained for n, kind in rows.items()}
        self.shape = RowShape(widths, row.dtype, row.device)
        self.population = population
        self._make()

    def _make(self) -> None:
        try:
            self._make_tables()
        except OSError:  # no address space for memory that is shared, under `ulimit -v`
            if not self.tier.shared:
                raise
            self.tier = replace(self.tier, shared=False)
            self._make_tables()

    def _make_tables(self) -> None:
        # No more are ever in use: everybody's, and a spare one for each of a cohort.
        places = 2 * self.population + 1
        if self.tier.staged(self.shape.dtype):
            self.tables: RowTables = StagedTables(self.shape, self.tier, places)
        else:
            shared = self.tier.shared
            self.tables = DirectTables(self.shape, self.tier.places + 1, places, shared)
        self._shared: dict[str, SharedMemory] = {}
        self.values = {
            name: self._memory(name, (places, *v.shape), v.dtype)
            for name, v in self.default.items()
        }
        # Zeros that nobody has written take no memory.
        self.slots = [self._memory(f"slot {i}", (self.population,), torch.int64) for i in (0, 1)]
        self.generations = self._memory("generations", (2,), torch.int64).numpy()
        self.generations[1] = NEVER
        for name, v in self.default.items():
            self.values[name][BLANK] = v
        for name, kind in self.first.items():
            if kind == "model" and self.initial is not None:
                self.tables.tables[name][BLANK] = self.initial

    def _memory(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Zeros, on the CPU where they are no values of clients on the device."""
        if self.tier.shared:
            self._shared[name] = SharedMemory(shape, dtype)
            return self._shared[name].tensor
        value = self.default.get(name)
        return reserved(shape, dtype, CPU if value is None else value.device)

    def places(self) -> SharedRows:
        """What other processes have to know; of a tier that is shared."""
        shared = {name: held.about for name, held in self._shared.items()}
        values = {name: shared[name] for name in self.default}
        slots, rows = (shared["slot 0"], shared["slot 1"]), self.tables.files()
        widths = self.shape.widths
        about = widths, self.stored, values, slots, shared["generations"]
        return SharedRows(os.getpid(), rows, *about)

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
        rows = {name: self.tables.read(name, places) for name in self.first}
        return rows, self.values_at(places)

    def values_at(self, places: Tensor) -> dict[str, Tensor]:
        """Copies of the values at places [n], each where it is kept."""
        if not self.values:
            return {}
        there = sent_to(places, self.device)
        return {
            name: held[places if held.device.type == "cpu" else there]
            for name, held in self.values.items()
        }

    def write(
        self, places: Tensor, rows: Mapping[str, Tensor], values: Mapping[str, Tensor]
    ) -> None:
        """Rows and values from outside of a round."""
        for name in self.first:
            self.tables.write(name, places, rows[name])
        self.write_values(places, values)

    def write_values(self, places: Tensor, values: Mapping[str, Tensor]) -> None:
        """Small state at places [n]."""
        if not self.default:
            return
        there = sent_to(places, self.device)
        for name, held in self.values.items():
            held[places if held.device.type == "cpu" else there] = values[name].to(held.device)

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
