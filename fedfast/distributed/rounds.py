"""What ranks exchange in a round: rows of clients, nodes of sums, numbers of clients, models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..clients import ClientState
from ..cohort_pass import Tally
from ..kernels.summation import join_all, largest_nodes
from ..phases import timed
from ..running_sum import RunningSum
from .ranks import Ranks
from .shares import Shares

NOBODY = -1


@timed("state")
def values_of(
    ranks: Ranks, clients: ClientState, owners: np.ndarray, ids: np.ndarray
) -> dict[str, Tensor]:
    """Values of clients [K] by name, each from the rank that keeps it."""
    own = clients.values_of(torch.from_numpy(ids))
    if not own:
        return own
    parts = ranks.gathered({name: t.cpu() for name, t in own.items()})
    who, place = np.maximum(owners[ids].astype(np.int64), 0), np.arange(len(ids))
    pick = torch.from_numpy(who), torch.from_numpy(place)
    return {n: torch.stack([p[n] for p in parts])[pick].to(t.device) for n, t in own.items()}


@timed("state")
def take_over(
    ranks: Ranks, clients: ClientState, owners: np.ndarray, ids: np.ndarray, new: np.ndarray
) -> Tensor:
    """Rows of clients `ids` [C] move to the ranks `new` [C] that train them, ahead of a round.

    Returns those that this rank has given away; what is committed stays as it is.
    """
    old = owners[ids]
    away = (old != new) & (old != NOBODY)
    send: list[tuple[int, Tensor]] = []
    receive: list[tuple[int, Tensor]] = []
    rows, values = clients.export(torch.zeros(0, dtype=torch.int64))
    kinds, parts = {**rows, **values}, []
    for source, to in sorted({(int(a), int(b)) for a, b in zip(old[away], new[away], strict=True)}):
        who = torch.from_numpy(ids[away & (old == source) & (new == to)])
        if source == ranks.rank:
            given = clients.export(who)
            send += [(to, t.contiguous()) for t in {**given[0], **given[1]}.values()]
        elif to == ranks.rank:
            made = {n: t.new_empty(len(who), *t.shape[1:]) for n, t in kinds.items()}
            receive += [(source, t) for t in made.values()]
            parts.append((who, made))
    ranks.moved(send, receive)
    joined = {n: torch.cat([kinds[n], *(made[n] for _, made in parts)]) for n in kinds}
    here = torch.cat([torch.zeros(0, dtype=torch.int64), *(who for who, _ in parts)])
    clients.adopt(here, {n: joined[n] for n in rows}, {n: joined[n] for n in values})
    return torch.from_numpy(ids[away & (old == ranks.rank)])


@timed("aggregate")
def complete(ranks: Ranks, sums: Sequence[RunningSum], shares: Shares) -> None:
    """Make each rank's part of the sums the whole."""
    nodes = [largest_nodes(*shares.run(rank), shares.leaves) for rank in range(ranks.size)]
    places = [node for own in nodes for node in own]
    begin = sum(map(len, nodes[: ranks.rank]))
    for total in sums:
        rows = total.lowest.new_empty(len(places), *total.lowest.shape)
        for row, own in zip(rows[begin:], total.nodes(len(nodes[ranks.rank])), strict=False):
            row.copy_(own)
        ranks.spread(rows.split([len(own) for own in nodes]))
        total.lowest.copy_(join_all(list(rows), places, shares.leaves))


@timed("aggregate")
def whole_tally(ranks: Ranks, tally: Tally, device: torch.device) -> Tally:
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


def kept(ranks: Ranks, clients: ClientState) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """On rank 0 what clients of all ranks keep, as `ClientState.kept`; elsewhere its own part."""
    ids, rows, values = clients.kept()
    tensors = {**rows, **values}
    counts = ranks.gathered(len(ids))
    if not ranks.first:
        send = [(0, t.contiguous()) for t in (ids, *tensors.values())] if len(ids) else []
        ranks.moved(send, [])
        return ids, rows, values
    receive: list[tuple[int, Tensor]] = []
    for rank, count in enumerate(counts):
        if rank and count:
            own = (ids, *tensors.values())
            receive += [(rank, t.new_empty(count, *t.shape[1:])) for t in own]
    ranks.moved([], receive)
    width = 1 + len(tensors)
    parts = [[t for _, t in receive[i : i + width]] for i in range(0, len(receive), width)]
    every, *others = (
        torch.cat(part) for part in zip((ids, *tensors.values()), *parts, strict=True)
    )
    order = every.argsort()
    found = {name: t[order.to(t.device)] for name, t in zip(tensors, others, strict=True)}
    return every[order], {n: found[n] for n in rows}, {n: found[n] for n in values}
