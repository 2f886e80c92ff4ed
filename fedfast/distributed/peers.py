"""What other ranks' clients keep, read where they lie: while these ranks train, and once they are
gone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from weakref import finalize

import torch
from torch import Tensor

from ..client_rows import SharedRows
from ..clients import ClientState
from ..shared_memory import SharedMemory, SharedTensor, number_of, opened
from .ranks import Ranks


@dataclass(frozen=True)
class Published:
    """What a rank tells the others at the beginning.

    process  that has the memory
    rounds   [1], how many it has committed
    rows     what its clients keep, if they keep anything
    """

    process: int
    rounds: SharedTensor
    rows: SharedRows | None


class Peer:
    """Another rank of this machine, or what it has left.

    Raises OSError where its memory cannot be opened.
    """

    def __init__(self, found: Published) -> None:
        process, self._found = found.process, found.rows
        self._rounds = opened(process, found.rounds).numpy()
        if self._found is None:
            return
        rows = self._found
        self._files = {name: number_of(process, file.number) for name, file in rows.rows.items()}
        for number in self._files.values():
            finalize(self, os.close, number)
        self._values = {name: opened(process, t) for name, t in rows.values.items()}
        self._slots = [opened(process, t) for t in rows.slots]
        self._generations = opened(process, rows.generations)

    @property
    def rounds(self) -> int:
        """How many it has committed."""
        return int(self._rounds[0])

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


class Peers:
    """The ranks of a simulation on one machine, each of which reads what the others keep.

    Made by all ranks at once.
    """

    def __init__(self, ranks: Ranks, clients: ClientState, rounds: int) -> None:
        self._ranks = ranks
        self._own = SharedMemory((1,), torch.int64)
        self._rounds = self._own.tensor.numpy()
        self._rounds[0] = rounds
        rows = clients.places() if clients.kinds() else None
        found = ranks.gathered(Published(os.getpid(), self._own.about, rows))
        self.keeps = not clients.kinds() or all(each.rows is not None for each in found)
        self._peers = {i: Peer(each) for i, each in enumerate(found) if i != ranks.rank}
        ranks.gathered(None)  # nobody ends before its memory has been opened

    def committed(self, rounds: int) -> None:
        """This rank has, and rank 0 waits until all others have: one that has begun the next round
        overwrites what it came with."""
        self._rounds[0] = rounds
        if self._ranks.first:
            self._ranks.wait(lambda: all(p.rounds >= rounds for p in self._peers.values()))

    def at(self, generation: int) -> dict[int, PeerRows]:
        """What other ranks' clients keep, by rank."""
        return {rank: peer.at(generation) for rank, peer in self._peers.items()}
