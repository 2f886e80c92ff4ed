"""The rows that K clients train in, allocated once for a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .algorithms import Algorithm
from .algorithms.in_place import placed_rows
from .kernels._args import MAX_TERMS
from .layout import FlatLayout
from .row_memory import reserved


@dataclass(frozen=True)
class ActiveRows:
    """Views of the first clients' part of the live buffers.

    models  [K, S], whole rows; w: their trained region
    losses  [K] of the step, spare: losses that nobody reads, m: local momentum
    factors [K] each, of the gradient and of the model
    """

    models: Tensor
    w: Tensor
    losses: Tensor
    spare: Tensor
    m: Tensor | None
    factors: tuple[Tensor, Tensor]


class LiveBuffers:
    """Rows of up to `clients` clients.

    w        [K, S], the models
    g        [K, trained], the step's gradient; ahead: where it is taken, for those that ascend
    first    the gradient at w itself, for optimizers that keep it; m: local momentum
    addend   what corrects the gradient all round, for algorithms that do: of each client, or
             where `Executor.descend` runs all its steps of the thread that works on it
    own      client rows by name that are gathered, scratch: rows that hold nothing between rounds
    places   [2, K] int64, where clients' other rows lie: as they came, as they will be kept
    factors  [2, K], of the gradient and of the model in steps that plans repeat
    rate     [K], of the clients' steps where it is the same in all of them
    shares   [8, K], of the terms of a client row that the last step renews
    """

    def __init__(
        self, layout: FlatLayout, algorithm: Algorithm, clients: int, device: torch.device
    ) -> None:
        local, placed = algorithm.local, placed_rows(algorithm)

        def trained() -> Tensor:
            return layout.bank(clients, device, full=False)

        self.trained, self.w, self.g = layout.trained, layout.bank(clients, device), trained()
        self.ahead = trained() if local.ascends else None
        self.first = trained() if local.keeps else None
        self.m = trained() if local.momentum else None
        # Where rounds run from plans its first rows are touched alone, one for each thread.
        corrects = algorithm.constant and not algorithm.plain
        self.addend = reserved((clients if corrects else 0, self.trained), layout.dtype, device)
        self.own = {
            name: layout.bank(clients, device, full=kind == "model")
            for name, kind in algorithm.client_rows().items()
            if name not in placed
        }
        self.places = torch.zeros(2, clients, dtype=torch.int64, device=device)
        self.scratch = {name: trained() for name in algorithm.scratch_rows()}
        self.losses = torch.zeros(clients, dtype=layout.dtype, device=device)
        self.spare = torch.zeros_like(self.losses)
        self.factors = torch.zeros(2, clients, dtype=layout.dtype, device=device)
        self.rate = torch.zeros_like(self.losses)
        self.shares = torch.zeros(MAX_TERMS, clients, dtype=layout.dtype, device=device)
        self._active: dict[int, ActiveRows] = {}

    def active(self, clients: int) -> ActiveRows:
        """Of the first `clients`; made once, for slices cost as much as small operations."""
        if clients not in self._active:
            models = self.w[:clients]
            m = None if self.m is None else self.m[:clients]
            losses = self.losses[:clients], self.spare[:clients]
            factors = self.factors[0, :clients], self.factors[1, :clients]
            own = models, models[:, : self.trained], *losses, m
            self._active[clients] = ActiveRows(*own, factors)
        return self._active[clients]
