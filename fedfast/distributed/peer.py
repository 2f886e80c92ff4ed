"""Another rank of this machine: what it publishes, and its memory as this process reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from weakref import finalize

import torch
from torch import Tensor

from ..client_rows import SharedRows
from ..shared_memory import SharedTensor, number_of, opened


@dataclass(frozen=True)
class Published:
    """What a rank tells the others at the beginning.

    process  that has the memory
    words    [2], rounds that it has committed, and how often it has told something
    mail     [2, MAIL], what it tells, in turns: its length and a pickle
    nodes    [2, NODES * SUMS * S], nodes of its sums, likewise
    rows     what its clients keep, if they keep anything
    """

    process: int
    words: SharedTensor
    mail: SharedTensor
    nodes: SharedTensor
    rows: SharedRows | None


class Peer:
    """Another rank of this machine, or what it has left.

    Raises OSError where its memory cannot be opened.
    """

    def __init__(self, found: Published) -> None:
        process, self._found = found.process, found.rows
        self.words = opened(process, found.words).numpy()
        self.mail, self.nodes = opened(process, found.mail).numpy(), opened(process, found.nodes)
        if self._found is None:
            return
        rows = self._found
        self._files = {name: number_of(process, file.number) for name, file in rows.rows.items()}
        for number in self._files.values():
            finalize(self, os.close, number)
        self._values = {name: opened(process, t) for name, t in rows.values.items()}
        self._slots = [opened(process, t) for t in rows.slots]
        self._generations = opened(process, rows.generations)

    def at(self, generation: int) -> PeerRows:
        """Its clients' state of that generation. Raises LookupError where it has none."""
        sides = (self._generations == generation).nonzero()[:, 0].tolist()
        if not sides:
            raise LookupError(f"generation {generation}, found {self._generations.tolist()}")
        return PeerRows(self, self._slots[sides[0]])

    def values(self, places: Tensor) -> dict[str, Tensor]:
        """What clients keep beside rows, at places [n]: copies."""
        return {name: held[places] for name, held in self._values.items()}

    def rows(self, name: str, places: Tensor) -> Tensor:
        """Copies of rows as they are stored. [n, width]"""
        assert self._found is not None
        file, number = self._found.rows[name], self._files[name]
        out = torch.empty(len(places), self._found.widths[name], dtype=self._found.stored)
        data = out.view(torch.uint8).numpy()
        for row, place in zip(data, places.tolist(), strict=True):
            if os.preadv(number, [row.data], place * file.pitch) != len(row):
                raise OSError(f"client_rows: a row of process {self._found.process} is cut short")
        return out


class PeerRows:
    """Another rank's clients after a round."""

    def __init__(self, peer: Peer, slot: Tensor) -> None:
        self.peer, self.slot = peer, slot

    def ids(self) -> Tensor:
        """Whose rows it keeps, ascending."""
        return self.slot.nonzero()[:, 0]

    def values(self, ids: Tensor) -> dict[str, Tensor]:
        """[n, ...] by name."""
        return self.peer.values(self.slot[ids])

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """[n, width] as they are stored."""
        return self.peer.rows(name, self.slot[ids])
