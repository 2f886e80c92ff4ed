"""Ranks of one machine read each other's memory: what clients keep, while their rank trains and
once it is gone; nodes of sums; what they tell each other in a round."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..clients import ClientState
from ..shared_memory import SharedMemory
from .peer import Peer, PeerRows, Published
from .ranks import Ranks

MAIL = 1 << 28  # bytes that a rank may tell at once; memory is taken for what it does tell
FLOAT = torch.float64  # of sums
NODES, SUMS = 12, 8  # the most nodes of a run of leaves; sums of a round, the mean among them

T = TypeVar("T")


class Peers:
    """The ranks of a simulation on one machine. Made by all of them at once.

    usable  whether each has memory to share, and could open that of the others; nothing else of a
            peer may be used otherwise
    keeps   whether what clients keep is in such memory
    size    S, numbers in a row of a sum
    """

    def __init__(self, ranks: Ranks, clients: ClientState, rounds: int, size: int) -> None:
        self._ranks, self._turn = ranks, 0
        self._peers: dict[int, Peer] = {}
        own = None
        with suppress(OSError):  # under `ulimit -v`
            own = self._made(clients, size)
            self._words[:] = rounds, 0
        found = ranks.gathered(own)
        self.keeps = not clients.kinds() or all(each and each.rows for each in found)
        ready = False
        with suppress(OSError):
            others = [(i, each) for i, each in enumerate(found) if i != ranks.rank]
            self._peers = {i: Peer(each) for i, each in others if each is not None}
            ready = own is not None and len(self._peers) == len(others)
        self.usable = all(ranks.gathered(ready))

    def _made(self, clients: ClientState, size: int) -> Published:
        words, mail = SharedMemory((2,), torch.int64), SharedMemory((2, MAIL), torch.uint8)
        nodes = SharedMemory((2, NODES * SUMS * size), FLOAT)
        self._own = words, mail, nodes  # whose files are open as long as they are
        self._words, self._mail, self._nodes = (
            words.tensor.numpy(),
            mail.tensor.numpy(),
            nodes.tensor,
        )
        rows = clients.places() if clients.kinds() else None
        return Published(os.getpid(), words.about, mail.about, nodes.about, rows)

    def committed(self, rounds: int) -> None:
        """This rank has, and rank 0 waits until all others have: one that has begun the next round
        overwrites what it came with."""
        self._words[0] = rounds
        if self._ranks.first:
            self._ranks.wait(lambda: all(p.words[0] >= rounds for p in self._peers.values()))

    def gathered(self, own: T) -> list[T]:
        """What every rank has given, in their order; see `Ranks.gathered`.

        A rank that writes in a turn has waited for the turn before, for which all others had read
        what was there: two places are enough.
        """
        data = pickle.dumps(own)
        if len(data) + 8 > MAIL:
            raise ValueError(
                f"ranks: expected at most {MAIL >> 20} MiB of numbers of clients in a round; got "
                f"{len(data) >> 20}: smaller cohorts, or ranks on several machines"
            )
        turn = self._turn = self._turn + 1
        self._mail[turn % 2, : len(data) + 8] = np.frombuffer(
            len(data).to_bytes(8, "little") + data, np.uint8
        )
        self._words[1] = turn
        self._ranks.wait(lambda: all(p.words[1] >= turn for p in self._peers.values()))
        told = {
            rank: pickle.loads(_letter(peer.mail[turn % 2])) for rank, peer in self._peers.items()
        }
        return [told.get(rank, own) for rank in range(self._ranks.size)]

    def offer(self, sums: Sequence[Sequence[Tensor]]) -> bool:
        """Copy a round's nodes to where others find them after the next `gathered`; `sums`: those
        of each sum. Whether there is room, which all ranks agree on."""
        if len(sums) > SUMS or any(t.device.type != "cpu" for nodes in sums for t in nodes):
            return False
        for i, nodes in enumerate(sums):
            rows = self._rows(self._nodes[(self._turn + 1) % 2], i, nodes[0]) if nodes else ()
            for row, node in zip(rows, nodes, strict=False):
                row.copy_(node)
        return True

    def offered(self, rank: int, i: int, like: Tensor, count: int) -> list[Tensor]:
        """The nodes that another rank has offered of sum `i`: its own memory, not to be written."""
        return list(self._rows(self._peers[rank].nodes[self._turn % 2], i, like)[:count])

    @staticmethod
    def _rows(side: Tensor, i: int, like: Tensor) -> Tensor:
        """Rows [NODES, n] of sum `i`, each of the shape of `like` [n]."""
        each = NODES * (side.numel() // (NODES * SUMS))
        return side[i * each :][: NODES * like.numel()].view(NODES, *like.shape)

    def at(self, generation: int) -> dict[int, PeerRows]:
        """What other ranks' clients keep, by rank."""
        return {rank: peer.at(generation) for rank, peer in self._peers.items()}


def _letter(box: np.ndarray) -> bytes:
    size = int.from_bytes(box[:8].tobytes(), "little")
    return box[8 : 8 + size].tobytes()
