"""A cohort's local steps where each rank trains a share: rows before them, sums behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..algorithms.hooks import Cohort
from ..clients import ClientState
from ..cohort_pass import CohortPass, Tally
from ..engine_parts import EngineParts
from .rounds import complete, spread_rows, take_over, whole_tally
from .shares import Shares


def shares_of(engine: EngineParts, cohort: Cohort) -> Shares | None:
    """Who trains whom, by the samples that each client sees, about; None where there are no ranks.

    cohort  with its numbers on the host
    """
    if engine.ranks is None:
        return None
    return Shares.of((cohort.sizes * cohort.epochs).numpy(), engine.ranks.size)


def begin_clients(
    engine: EngineParts, cohort: Cohort, shares: Shares | None, start: Tensor
) -> tuple[ClientState, np.ndarray | None]:
    """(the state that this process's clients write, who keeps each client's rows then)."""
    ids = cohort.ids
    if engine.ranks is None or shares is None:
        return engine.clients.begin(torch.from_numpy(ids), start), None
    new, owners = shares.ranks(), engine.owners
    own = torch.from_numpy(ids[shares.part(engine.ranks.rank)])
    if not engine.clients.kinds():
        return engine.clients.begin(own, start), owners
    away = take_over(engine.ranks, engine.peers, engine.clients, owners, ids, new)
    clients, owners = engine.clients.begin(own, start), owners.copy()
    clients.drop(away)
    owners[ids] = new
    return clients, owners


def train_cohort(engine: EngineParts, cohort: CohortPass, shares: Shares | None) -> Tally:
    """The pass over the cohort, of which each rank trains its share."""
    ranks = engine.ranks
    if engine.watch is not None:
        engine.watch.begin(cohort.cohort, engine.state.row, engine.models.wanted)
    if ranks is None or shares is None:
        return cohort.train()
    own = replace(cohort, ending=None, part=shares.part(ranks.rank), tally=Tally())
    with ranks.told_of_errors():
        tally = own.train()
        if engine.peers is not None:
            cohort.clients.seal()
    more = [] if cohort.sums is None else [s for s in cohort.sums.own if s is not None]
    watched = [] if engine.watch is None else engine.watch.sums
    sums, peers = [engine.mean.sum, *more, *watched], engine.peers
    count = len(shares.nodes(ranks.rank))
    offered = peers is not None and peers.offer([s.nodes(count) for s in sums])
    found = whole_tally(peers or ranks, tally, cohort.sent.device)
    complete(ranks, peers if offered else None, sums, shares)
    if engine.watch is not None:
        engine.watch.complete(ranks, shares)
    if engine.models.wanted:
        engine.models.store(slice(0, 0), cohort.sent.expand(0, -1), shares.clients)
        spread_rows(ranks, engine.models.first(shares.clients), shares)
    if cohort.ending is not None:
        engine.mean.end(cohort.sent, cohort.ending)
    return found
