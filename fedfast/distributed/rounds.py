"""What ranks exchange in a round: rows of clients, nodes of sums, numbers of clients, models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..clients import ClientState
from ..cohort_pass import Tally
from ..kernels.summation import join_all
from ..phases import timed
from ..running_sum import RunningSum
from .peers import Peers
from .ranks import Ranks
from .shares import Shares

NOBODY = -1
Moved = tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]  # ids [n], rows and values by name


@timed("state")
def values_of(
    ranks: Ranks, peers: Peers | None, clients: ClientState, owners: np.ndarray, ids: np.ndarray
) -> dict[str, Tensor]:
    """Values of clients [K] by name, each from the rank that keeps it."""
    own = clients.values_of(torch.from_numpy(ids))
    if not own:
        return own
    if peers is None or not peers.keeps:
        parts = ranks.gathered({name: t.cpu() for name, t in own.items()})
    else:
        others, every = peers.at(clients.generation), torch.from_numpy(ids)
        parts = [others[i].values(every) if i in others else own for i in range(ranks.size)]
    who, place = np.maximum(owners[ids].astype(np.int64), 0), np.arange(len(ids))
    pick = torch.from_numpy(who), torch.from_numpy(place)
    return {n: torch.stack([p[n] for p in parts])[pick].to(t.device) for n, t in own.items()}


@timed("state")
def take_over(
    ranks: Ranks,
    peers: Peers | None,
    clients: ClientState,
    owners: np.ndarray,
    ids: np.ndarray,
    new: np.ndarray,
) -> Tensor:
    """Rows of clients `ids` [C] move to the ranks `new` [C] that train them, ahead of a round.

    Returns those that this rank has given away; what is committed stays as it is.
    """
    old = owners[ids]
    away = (old != new) & (old != NOBODY)
    if peers is not None and peers.keeps:
        moved = _read(peers, clients, ids, old, away & (new == ranks.rank))
    else:
        moved = _exchanged(ranks, clients, ids, old, np.where(away, new, old))
    none = torch.zeros(0, dtype=torch.int64)
    parts: list[Moved] = [(none, *clients.export(none)), *moved]
    rows = {name: torch.cat([held[name] for _, held, _ in parts]) for name in parts[0][1]}
    values = {name: torch.cat([held[name] for _, _, held in parts]) for name in parts[0][2]}
    clients.adopt(torch.cat([who for who, *_ in parts]), rows, values)
    return torch.from_numpy(ids[away & (old == ranks.rank)])


def _read(
    peers: Peers, clients: ClientState, ids: np.ndarray, old: np.ndarray, wanted: np.ndarray
) -> list[Moved]:
    """What the ranks `old` [C] keep of the clients that are `wanted` [C], from their memory."""
    found, made = peers.at(clients.generation), []
    for source in np.unique(old[wanted]).tolist():
        who, peer = torch.from_numpy(ids[wanted & (old == source)]), found[source]
        rows = {name: peer.rows(name, who) for name in clients.row_kinds()}
        made.append((who, rows, peer.values(who)))
    return made


def _exchanged(
    ranks: Ranks, clients: ClientState, ids: np.ndarray, old: np.ndarray, new: np.ndarray
) -> list[Moved]:
    """What other ranks send of clients that leave `old` [C] for `new` [C], this rank."""
    send: list[tuple[int, Tensor]] = []
    receive: list[tuple[int, Tensor]] = []
    kinds, made = clients.export(torch.zeros(0, dtype=torch.int64)), []
    pairs = zip(old[old != new], new[old != new], strict=True)
    for source, to in sorted({(int(a), int(b)) for a, b in pairs}):
        who = torch.from_numpy(ids[(old == source) & (new == to)])
        if source == ranks.rank:
            send += [(to, t.contiguous()) for of in clients.export(who) for t in of.values()]
        elif to == ranks.rank:
            rows, values = (
                {n: t.new_empty(len(who), *t.shape[1:]) for n, t in of.items()} for of in kinds
            )
            receive += [(source, t) for of in (rows, values) for t in of.values()]
            made.append((who, rows, values))
    ranks.moved(send, receive)
    return made


@timed("aggregate")
def complete(ranks: Ranks, peers: Peers | None, sums: Sequence[RunningSum], shares: Shares) -> None:
    """Make each rank's part of the sums the whole.

    peers  where all have offered their nodes, and know that the others have
    """
    nodes = [shares.nodes(rank) for rank in range(ranks.size)]
    places = [node for own in nodes for node in own]
    ours = [peers is None or rank == ranks.rank for rank, own in enumerate(nodes) for _ in own]
    for i, total in enumerate(sums):
        if peers is None:
            rows = _spread(ranks, total, [len(own) for own in nodes])
        else:
            rows = _offered(ranks, peers, i, total, [len(own) for own in nodes])
        total.lowest.copy_(join_all(rows, places, shares.leaves, ours))


def _spread(ranks: Ranks, total: RunningSum, counts: Sequence[int]) -> list[Tensor]:
    """Nodes of all ranks, which have so many each: copies."""
    rows = total.lowest.new_empty(sum(counts), *total.lowest.shape)
    parts = rows.split(list(counts))
    for row, own in zip(parts[ranks.rank], total.nodes(counts[ranks.rank]), strict=True):
        row.copy_(own)
    ranks.spread(parts)
    return list(rows)


def _offered(
    ranks: Ranks, peers: Peers, i: int, total: RunningSum, counts: Sequence[int]
) -> list[Tensor]:
    """Nodes of all ranks of sum `i`: where each has them."""
    found = [
        total.nodes(count) if rank == ranks.rank else peers.offered(rank, i, total.lowest, count)
        for rank, count in enumerate(counts)
    ]
    return [row for part in found for row in part]


@timed("aggregate")
def whole_tally(ranks: Ranks | Peers, tally: Tally, device: torch.device) -> Tally:
    """The tally of the whole cohort, clients in processing order, from each rank's part."""
    own = {name: [t.cpu() for t in getattr(tally, name)] for name in LISTS}
    numbers = {name: t.cpu() for name, t in tally.joined().items()}
    found = ranks.gathered((own, numbers, tally.diverged, tally.samples))
    made = Tally(
        diverged=[client for _, _, diverged, _ in found for client in diverged],
        samples=sum(samples for *_, samples in found),
        numbers=[{n: t.to(device) for n, t in part.items()} for _, part, *_ in found if part],
    )
    for name in LISTS:
        getattr(made, name).extend(t.to(device) for lists, *_ in found for t in lists[name])
    return made


LISTS = ("losses", "step_losses", "train_losses", "start_losses")


def spread_rows(ranks: Ranks, rows: Tensor, shares: Shares) -> None:
    """Rows [C, ...] in processing order, of which each rank has its part, become all."""
    ranks.spread([rows[shares.part(rank)] for rank in range(ranks.size)])
