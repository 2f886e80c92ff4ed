"""What the clients of all ranks keep, as one: for a state that is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..clients import ClientState, Kept
from ..row_blocks import RowsInBlocks
from .ranks import Ranks


class KeptRows(Protocol):
    """Clients of one rank after a round."""

    def ids(self) -> Tensor:
        """Whose rows it keeps, ascending."""

    def values(self, ids: Tensor) -> dict[str, Tensor]:
        """[n, ...] by name, on the CPU."""

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """Copies as they are stored, on the CPU. [n, width]"""


class OwnRows:
    """This process's clients after the last complete round."""

    def __init__(self, clients: ClientState) -> None:
        self._clients, self.ids = clients, clients.kept_ids

    def values(self, ids: Tensor) -> dict[str, Tensor]:
        """See `KeptRows`."""
        return {name: t.cpu() for name, t in self._clients.values_of(ids).items()}

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """See `KeptRows`."""
        return self._clients.rows_of(name, ids).cpu()


class SentRows:
    """Clients of another rank, which sends what rank 0 asks for.

    ids, values  of all of them, sent before
    """

    def __init__(
        self, ranks: Ranks, rank: int, ids: Tensor, values: Mapping[str, Tensor], kinds: Kinds
    ) -> None:
        self._ranks, self._rank, self._kinds = ranks, rank, kinds
        self._ids, self._values = ids, values

    def ids(self) -> Tensor:
        """See `KeptRows`."""
        return self._ids

    def values(self, ids: Tensor) -> dict[str, Tensor]:
        """See `KeptRows`."""
        at = torch.searchsorted(self._ids, ids)
        return {name: held[at] for name, held in self._values.items()}

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """See `KeptRows`."""
        like = self._kinds[name]
        out = torch.empty(len(ids), *like.shape, dtype=like.dtype)
        self._ranks.tell("rows", self._rank, name, ids)
        self._ranks.moved([], [(self._rank, out)])
        return out


Kinds = Mapping[str, Tensor]  # a row by name, for its shape and dtype


def joined(parts: Sequence[KeptRows], kinds: Kinds) -> Kept:
    """What all ranks' clients keep, by client; rows block by block.

    kinds  a client's rows by name, as they are stored
    """
    own = [part.ids() for part in parts]
    ids, order = torch.cat(own).sort()
    who = torch.repeat_interleave(torch.arange(len(own)), torch.tensor([len(i) for i in own]))
    values = [part.values(i) for part, i in zip(parts, own, strict=True)]
    every = {name: torch.cat([v[name] for v in values])[order] for name in values[0]}

    def read(name: str, like: Tensor, begin: int, end: int) -> Tensor:
        out = torch.empty(end - begin, *like.shape, dtype=like.dtype)
        for i, part in enumerate(parts):
            at = (who[order[begin:end]] == i).nonzero()[:, 0]
            if len(at):
                out[at] = part.rows(name, ids[begin:end][at])
        return out

    rows = {
        name: RowsInBlocks(
            like.dtype, torch.Size((len(ids), *like.shape)), partial(read, name, like)
        )
        for name, like in kinds.items()
    }
    return ids, rows, every


def sent(ranks: Ranks, clients: ClientState) -> Kept | None:
    """On rank 0 what all ranks' clients keep; the others send it until it tells something else."""
    own = OwnRows(clients)
    found = ranks.gathered((own.ids(), own.values(own.ids())))
    if ranks.first:
        kinds = clients.row_kinds()
        others = [SentRows(ranks, i, *each, kinds) for i, each in enumerate(found) if i]
        return joined([own, *others], kinds)
    while (told := ranks.hear())[0] == "rows":
        _, rank, name, ids = told
        if rank == ranks.rank:
            assert isinstance(name, str) and isinstance(ids, Tensor)
            ranks.moved([(0, own.rows(name, ids).contiguous())], [])
    return None
