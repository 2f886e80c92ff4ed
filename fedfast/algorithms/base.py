"""`Algorithm`: a local optimizer under a drift correction under a server rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from .drift import Drift
from .finetune import FineTune
from .optimizers import SGD, Optimizer
from .pieces import Clients, Cohort, Direction, Layout, Piece, Rows, Server, Sum, overrides
from .servers import Average, ServerRule


@dataclass(frozen=True)
class Algorithm:
    """Base of every page, and itself the composition of three pieces; the default is FedAvg.

    local   the clients' optimizer: SGD, SAM, ASAM, ...
    drift   what is added to its direction, and the state that needs: none, prox, dual, ...
    server  how the global model follows from the clients' updates

    fine_tune    what clients do with the final model, for themselves alone
    keep_models  whether every client keeps its last local model as its personal one, judged on
                 its own test part in every tested round (the protocol of FedFSA's authors)
    """

    local: Optimizer = field(default_factory=SGD)
    drift: Drift = field(default_factory=Drift)
    server: ServerRule = field(default_factory=Average)
    fine_tune: FineTune | None = field(default=None, kw_only=True)
    keep_models: bool = field(default=False, kw_only=True)

    name: ClassVar[str] = ""
    down: ClassVar[int] = 1  # model sizes a client receives per round, its pieces' extras aside
    up: ClassVar[int] = 1  # and sends
    official: ClassVar[tuple[int, int] | None] = None  # (down, up) of official code, if it differs
    verified: ClassVar[str] = "script"  # held to a "script" of its formula, or a "public run"
    pools: ClassVar[bool] = False  # all data belongs to one client

    def __post_init__(self) -> None:
        self.compose()

    def compose(self, **pieces: Piece) -> None:
        """Set the pieces that a page derives from its parameters, and check the whole."""
        for name, piece in pieces.items():
            object.__setattr__(self, name, piece)
        check_combination(self)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The pieces, in the order they are asked."""
        return self.local, self.drift, self.server

    def direction(self, at: Clients) -> Direction:
        """What the step descends along, before clipping and weight decay."""
        return self.drift.correct(at, self.local.terms(at))

    @property
    def personal(self) -> str | None:
        """The client row that holds the clients' own models, None where nobody keeps them."""
        return next((name for name, kind in self.client_rows().items() if kind == "model"), None)

    @property
    def gradients(self) -> int:
        """Gradients per local step."""
        return 1 + int(self.local.looks)

    @property
    def plain(self) -> bool:
        """Whether a step descends along the gradient at `ahead` and nothing else."""
        simple = not overrides(self.local, "terms", Optimizer)
        return simple and type(self).direction is Algorithm.direction and self.drift.plain

    def rate(self, at: Clients) -> float | Tensor:
        """The learning rate of a step: one number, or one per client [K]."""
        return at.lr

    def lr_total(self, cohort: Cohort, values: Rows) -> Tensor:
        """Each client's learning rates summed over its steps. [C] float64"""
        return cohort.steps * cohort.lr

    def check_run(self, local_epochs: int, batch_size: int | None) -> None:
        """Raise ValueError where the run's settings contradict the algorithm."""

    def weights(self, sizes: Tensor, by_samples: bool) -> Tensor:
        """The p_k of the mean from the clients' numbers of samples. [C] float64 -> [C] float64"""
        raw = sizes if by_samples else torch.ones_like(sizes)
        return raw / raw.sum()

    def starts(self, at: Clients, out: Tensor) -> bool:
        """Write where each client starts to `out` [K, trained]; False: all at `at.start`."""
        return False

    def client_rows(self) -> dict[str, str]:
        """Client rows of all pieces, and the client's own model where that is kept."""
        rows = {k: v for p in self.pieces for k, v in p.client_rows().items()}
        return rows | ({"v": "model"} if self.keep_models else {})

    def scratch_rows(self) -> tuple[str, ...]:
        """Scratch rows of all pieces."""
        return tuple(name for p in self.pieces for name in p.scratch_rows())

    def client_values(self, layout: Layout) -> dict[str, Tensor]:
        """Client values of all pieces."""
        return {k: v for p in self.pieces for k, v in p.client_values(layout).items()}

    def server_rows(self) -> tuple[str, ...]:
        """Server rows of all pieces, each once."""
        return tuple(dict.fromkeys(name for p in self.pieces for name in p.server_rows))

    def server_values(self, layout: Layout) -> dict[str, Tensor]:
        """Server values of all pieces."""
        return {k: v for p in self.pieces for k, v in p.server_values(layout).items()}

    def server_scalars(self) -> dict[str, float]:
        """Server scalars of all pieces."""
        return {k: v for p in self.pieces for k, v in p.server_scalars().items()}

    def begin(self, at: Clients) -> None:
        """Before the first local step."""
        for piece in self.pieces:
            piece.begin(at)

    def after_step(self, at: Clients) -> None:
        """After each local step."""
        for piece in self.pieces:
            piece.after_step(at)

    def finish(self, at: Clients) -> dict[str, Tensor]:
        """After the last local step; numbers [K] by name."""
        return {k: v for p in self.pieces for k, v in p.finish(at).items()}

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """How server rows follow from this round's clients."""
        return [s for piece in self.pieces for s in piece.sums(cohort)]

    def settle(self, server: Server, cohort: Cohort, numbers: Rows) -> None:
        """After the sums."""
        for piece in self.pieces:
            piece.settle(server, cohort, numbers)

    def added(self) -> dict[str, float]:
        """Server rows that join the new global model: name -> coefficient."""
        return {k: v for p in self.pieces for k, v in p.added().items()}

    def traffic(self) -> tuple[int, int]:
        """(down, up) in model sizes: what must cross the network per client and round at least.

        Clients and server may keep state where that saves traffic.
        """
        extra = [piece.extra for piece in self.pieces]
        return self.down + sum(d for d, _ in extra), self.up + sum(u for _, u in extra)


def check_combination(algorithm: Algorithm) -> None:
    """Raise TypeError for what is not a piece, ValueError for pieces that contradict each other."""
    kinds = (("local", Optimizer), ("drift", Drift), ("server", ServerRule))
    for name, kind in kinds:
        found = getattr(algorithm, name)
        if not isinstance(found, kind):
            raise TypeError(f"{name}: expected a {kind.__name__}; got {found!r}")
    if not isinstance(algorithm.fine_tune, FineTune | None):
        raise TypeError(f"fine_tune: expected a FineTune or None; got {algorithm.fine_tune!r}")
    if not isinstance(algorithm.keep_models, bool):
        raise TypeError(f"keep_models: expected True or False; got {algorithm.keep_models!r}")
    if overrides(algorithm, "starts", Algorithm) and algorithm.drift.client_rows():
        drift = algorithm.drift.name
        raise ValueError(
            f"{algorithm.name}: clients that start at models of their own under {drift}, whose "
            "state is measured from the model that is sent"
        )
    for piece in algorithm.pieces:
        reason = piece.refuses(algorithm)
        if reason:
            raise ValueError(f"{algorithm.name or 'algorithm'}: {reason}")
