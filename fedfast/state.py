"""What outlives a round: the server's model and rows, the clients' state, and the history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .algorithms.hooks import ServerView
from .client_scores import ClientScores
from .clients import ClientState
from .history import Rows
from .kernels import Server as Rule


@dataclass(frozen=True)
class Tuned:
    """Models that clients made of the last global model.

    rows  [C, b - a], the part that fine-tuning changed
    slot  [N] int64, where in `rows` each client's is, -1 for none
    """

    rows: Tensor
    slot: np.ndarray


@dataclass(frozen=True)
class Committed:
    """Everything that outlives a round, as one value: a round commits by replacing it.

    One assignment cannot be torn, by an exception nor by a signal: before it a simulation is at the
    end of the round before, after it at the end of this one.

    scores  of the clients, losses included, where the round was tested and they were asked for
    owners  [N], which rank keeps each client's rows, -1 for nobody; None where there is one process
    """

    server: ServerState
    clients: ClientState
    tuned: Tuned | None = None
    stopped: bool = False
    rows: Rows = field(default_factory=Rows)
    scores: ClientScores | None = None
    owners: np.ndarray | None = None


class ServerState(ServerView):
    """The global row [S], the rule's moments, and the rows and scalars of the components."""

    def __init__(
        self,
        row: Tensor,
        trained: int,
        rule: Rule,
        rows: Iterable[str] = (),
        scalars: Mapping[str, float] | None = None,
        values: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.row, self.trained, self.w = row, trained, row[:trained]
        self.m = torch.zeros_like(self.w) if rule.moments > 0 else None
        self.v = torch.full_like(self.w, rule.tau**2) if rule.moments > 1 else None
        self.rows = {name: torch.zeros_like(self.w) for name in rows}
        self.scalars, self.pending = dict(scalars or {}), {}
        self.values = {name: v.to(row.device, copy=True) for name, v in (values or {}).items()}

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name: what a round rewrites and must be finite."""
        moments = {"moment1": self.m, "moment2": self.v}
        kept = {name: t for name, t in moments.items() if t is not None}
        return {"row": self.row, **kept, **self.rows, **self.values}

    def shown(self) -> dict[str, Tensor]:
        """The rows and values that clients may read."""
        shown = {**self.rows, **self.values}
        return shown if self.m is None else {**shown, "moment": self.m}

    def follow(self, other: ServerState) -> None:
        """Take over what `other` holds beside the model, which a round writes whole."""
        theirs = other.tensors()
        for name, t in self.tensors().items():
            if t is not self.row:
                t.copy_(theirs[name])
        self.scalars, self.pending = dict(other.scalars), {}

    def at(self, row: Tensor) -> ServerState:
        """The same state with another model, `row` [S]: not a copy."""
        made = copy(self)
        made.row, made.w = row, row[: self.trained]
        return made

    def twin(self) -> ServerState:
        """Another state of the same make, its values still to be written."""
        made = ServerState.__new__(ServerState)
        made.row, made.trained = torch.empty_like(self.row), self.trained
        made.w = made.row[: self.trained]
        made.m = None if self.m is None else torch.empty_like(self.m)
        made.v = None if self.v is None else torch.empty_like(self.v)
        made.rows = {name: torch.empty_like(t) for name, t in self.rows.items()}
        made.values = {name: torch.empty_like(t) for name, t in self.values.items()}
        made.scalars, made.pending = {}, {}
        return made
