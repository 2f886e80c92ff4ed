"""The clients of a round with their numbers: sizes, steps, weights, rates."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .algorithms import Algorithm
from .algorithms._hook_checks import overrides
from .algorithms.hooks import Cohort
from .distributed.rounds import values_of
from .engine_parts import EngineParts
from .frozen import changed
from .round_records import Work
from .transfers import all_sent_to

Shared = TypeVar("Shared", float, int)


def cohort_of(engine: EngineParts, work: Work, order: np.ndarray) -> Cohort:
    """The round's clients, with all numbers on the host."""
    ids = work.plan.clients[order]
    sizes = torch.from_numpy(engine.run.data.sizes(ids).astype(np.float64))
    counts = torch.from_numpy(work.plan.steps[order].astype(np.float64))
    cohort = Cohort(
        round=work.t,
        lr=_in_order(work.lr, order),
        ids=ids,
        sizes=sizes,
        steps=counts,
        weights=engine.algorithm.weights(sizes, engine.options.aggregation == "samples"),
        lr_total=counts,
        epochs=_in_order(work.epochs, order),
        population=work.population,
        seed=engine.options.seed,
        backend=engine.backend,
        decay=engine.client_decay,
    )
    return changed(cohort, lr_total=engine.algorithm.lr_total(cohort, _values(engine, ids)))


def on_device(engine: EngineParts, host: Cohort) -> Cohort:
    """The same clients, with all numbers on the device."""
    device = engine.state.row.device
    if device.type == "cpu":
        return host
    names = "sizes", "steps", "weights", "lr_total", "lr", "epochs"
    own = {name: getattr(host, name) for name in names}
    own = {name: t.double() for name, t in own.items() if isinstance(t, Tensor)}
    there = dict(zip(own, all_sent_to([*own.values()], device), strict=True))
    return changed(host, known=host, **there)


def _values(engine: EngineParts, ids: np.ndarray) -> dict[str, Tensor]:
    """What `lr_total` may read of clients: their values, on the host."""
    if engine.ranks is not None:
        found = values_of(engine.ranks, engine.peers, engine.clients, engine.owners, ids)
    elif engine.client_decay == 1.0 and not overrides(engine.algorithm, "lr_total", Algorithm):
        found = {}  # rates are the round's
    else:
        found = engine.clients.values_of(torch.from_numpy(ids))
    return {name: value.cpu() for name, value in found.items()}


def _in_order(number: Shared | np.ndarray, order: np.ndarray) -> Shared | Tensor:
    """One number for all, or those of the clients in processing order."""
    return torch.from_numpy(number[order]) if isinstance(number, np.ndarray) else number
