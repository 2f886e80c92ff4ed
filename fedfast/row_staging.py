"""Rows worked on as copies of what is kept elsewhere: a file, the host's memory, another dtype.

A table has five parts: the blank row, the new rows of two states in turn, and rows that came, of
this round and of the next. While a cohort trains, one thread reads what the next one will ask for
and writes back what the last one has left; it does one thing after another, so that what is read
is what was written. A round that is broken off has written to spare places only.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from .row_memory import FileRows, MemoryRows, pitch, reserved
from .row_tables import BLANK, RowShape
from .row_tiers import RowTier
from .shared_memory import PlacedFile
from .transfers import sent_to

CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Held:
    """Which places' rows are in a table: rows[i] holds what lies at places[i], ascending."""

    places: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, places: Tensor, rows: Tensor) -> _Held:
        order = np.argsort(places.numpy(), kind="stable")
        return cls(places.numpy()[order], rows.numpy()[order])

    def find(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(which of `places` are here, their rows; any number for the others)."""
        if not len(self.places):
            return np.zeros(len(places), dtype=bool), np.zeros(len(places), dtype=np.int64)
        at = np.searchsorted(self.places, places).clip(max=len(self.places) - 1)
        return self.places[at] == places, self.rows[at]

    def without(self, places: np.ndarray) -> _Held:
        """The rest, where some are written elsewhere."""
        rest = ~np.isin(self.places, places)
        return self if rest.all() else _Held(self.places[rest], self.rows[rest])


_NOTHING = _Held(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class _Expected:
    """Rows that are being read for the next cohort, into the first `used` of a part."""

    held: _Held
    part: int
    used: int
    ready: Future[None]


def _store(
    tier: RowTier, width: int, dtype: torch.dtype, device: torch.device, most: int
) -> MemoryRows | FileRows:
    if tier.folder is not None:
        return FileRows(tier.folder, width, dtype)
    if tier.shared:
        return MemoryRows(most, width, dtype, CPU, True)
    here = device if tier.name == "device" else CPU
    # On the CPU what is reserved costs nothing: there is room for more rounds than were planned.
    return MemoryRows(tier.places * (1 + 3 * (here == CPU)) + 1, width, dtype, here)


class StagedTables:
    """See `RowTables`. Four cohorts' rows are in the tables; the others where the tier has them.

    most  places that a tier of shared memory has room for
    """

    def __init__(self, shape: RowShape, tier: RowTier, most: int = 0) -> None:
        self.shape, self.tier = shape, tier
        stored = tier.dtype or shape.dtype
        self.exact = stored == shape.dtype
        self.stores: dict[str, MemoryRows | FileRows] = {
            name: _store(tier, width, stored, shape.device, most)
            for name, width in shape.widths.items()
        }
        # Copies go beside the kernels that train, which the default stream has.
        cuda = shape.device.type == "cuda"
        self._stream = torch.cuda.Stream(shape.device) if cuda else None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="client-rows")
        finalize(self, self._worker.shutdown, wait=False)
        self.tables: dict[str, Tensor] = {}
        self._make_room(max(1, tier.cohort))

    def _make_room(self, cohort: int) -> None:
        """Tables for so many clients; what was in them is read again where it is wanted."""
        self._cohort, before = cohort, self.tables
        self._whole = {
            name: reserved(
                (4 * cohort + 1, pitch(width, self.shape.dtype)),
                self.shape.dtype,
                self.shape.device,
            )
            for name, width in self.shape.widths.items()
        }
        self.tables = {n: self._whole[n][:, :width] for n, width in self.shape.widths.items()}
        for name, held in before.items():
            self.tables[name][BLANK] = held[BLANK]
        self._kept, self._came = [_NOTHING, _NOTHING], 0
        self._writes: list[list[Future[None]]] = [[], []]
        self._expected: _Expected | None = None

    def allocate(self, places: int) -> None:
        """Make sure of so many places."""
        for store in self.stores.values():
            store.allocate(places)

    def begin(self, side: int, came: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """See `RowTables`."""
        self._finish(side)
        if len(came) > self._cohort:
            self._finish(1 - side)
            if self._expected is not None:  # it is read into tables that have another layout
                self._expected.ready.result()
            self._make_room(2 * len(came))
        rows = self._coming(side, came.numpy())
        new = torch.arange(len(kept)) + 1 + side * self._cohort
        self._kept[side] = _Held.of(kept, new) if self.exact else _NOTHING
        return sent_to(rows, self.shape.device), sent_to(new, self.shape.device)

    def _finish(self, side: int) -> None:
        """Wait for what a state has to write. Raises OSError where that failed."""
        writes, self._writes[side] = self._writes[side], []
        for write in writes:
            write.result()

    def _coming(self, side: int, came: np.ndarray) -> Tensor:
        """Rows of the tables that hold what lies at `came`, 0 where that is blank."""
        rows = np.full(len(came), BLANK)
        here, found = self._kept[1 - side].find(came)  # what the last round has left
        rows[here] = found[here]
        missing = ~here & (came != BLANK)
        expected, self._expected = self._expected, None
        used = 0
        if expected is not None:
            expected.ready.result()
            here, found = expected.held.find(came)
            self._came, used = expected.part, expected.used
            rows[missing & here] = found[missing & here]
            missing &= ~here
        if used + missing.sum() > self._cohort:
            return self._coming(side, came)  # others were expected: everything is read anew
        if missing.any():
            at = torch.arange(int(missing.sum())) + self._first(self._came) + used
            self._worker.submit(self._read, torch.from_numpy(came[missing]), at).result()
            rows[missing] = at.numpy()
        return torch.from_numpy(rows)

    def _first(self, part: int) -> int:
        """The first row of a part of rows that came."""
        return 1 + (2 + part) * self._cohort

    def expect(self, places: Tensor) -> None:
        """Read what lies there while the present cohort trains."""
        if len(places) > self._cohort or self._expected is not None:
            return
        part = 1 - self._came
        at = torch.arange(len(places)) + self._first(part)
        ready = self._worker.submit(self._read, places, at)
        self._expected = _Expected(_Held.of(places, at), part, len(places), ready)

    def written(self, side: int, rows: Tensor, kept: Tensor) -> None:
        """Write them to where they are kept, while training goes on."""
        done = None
        if self.shape.device.type == "cuda":
            done = torch.cuda.Event()
            done.record()
        self._writes[side].append(self._worker.submit(self._write, kept, rows, done))

    def flush(self) -> None:
        """Wait until all that was complete is stored. Raises OSError where that failed."""
        for side in (0, 1):
            self._finish(side)

    def _read(self, places: Tensor, at: Tensor) -> None:
        with self._beside():
            for name, store in self.stores.items():
                self._bring(partial(store.read, places), name, at)

    def _beside(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _bring(self, read: partial[None], name: str, at: Tensor) -> None:
        whole = self._whole[name]
        if whole.device == self.stores[name].device:
            read(whole, at)
            return
        host = self._pinned(name, len(at))
        read(host, torch.arange(len(at)))
        whole[at.to(whole.device)] = host.to(whole.device, non_blocking=True)
        torch.cuda.current_stream(whole.device).synchronize()

    def _write(self, kept: Tensor, rows: Tensor, done: torch.cuda.Event | None) -> None:
        if done is not None:
            done.synchronize()
        with self._beside():
            for name, store in self.stores.items():
                source, at = self._whole[name], rows
                if source.device != store.device:
                    source = self._pinned(name, len(at)).copy_(source[at.to(source.device)])
                    at = torch.arange(len(at))
                store.write(kept, source, at)

    def _pinned(self, name: str, count: int) -> Tensor:
        """Host memory that a device copies to and from at full speed."""
        whole = self._whole[name]
        return torch.empty(count, whole.shape[1], dtype=whole.dtype, pin_memory=True)

    def read(self, name: str, places: Tensor) -> Tensor:
        """A copy in the stores' dtype, on the CPU, once all is written. [n, width]"""
        store = self.stores[name]
        # Pages of its own: others cannot be read past the cache.
        out = reserved((len(places), pitch(store.width, store.dtype)), store.dtype, CPU)
        self._worker.submit(store.read, places, out, torch.arange(len(places))).result()
        return out[:, : store.width]

    def write(self, name: str, places: Tensor, rows: Tensor) -> None:
        """Rows from outside of a round, [n, width]."""
        self._forget(places.numpy())
        store = self.stores[name]
        held = reserved((len(rows), pitch(store.width, rows.dtype)), rows.dtype, CPU)
        held[:, : store.width] = rows
        self._worker.submit(store.write, places, held, torch.arange(len(rows))).result()

    def _forget(self, places: np.ndarray) -> None:
        """What was read from there, or left in the tables, is not what lies there any more."""
        self._kept = [held.without(places) for held in self._kept]
        if self._expected is not None:
            held = self._expected.held.without(places)
            self._expected = replace(self._expected, held=held)

    def files(self) -> dict[str, PlacedFile]:
        """See `RowTables`."""
        found = {name: store.file() for name, store in self.stores.items()}
        return {name: file for name, file in found.items() if file is not None}
