"""`ServerRule`: from the clients' updates to the next global model. The base takes the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .. import kernels
from ..registry import class_registry
from ._hook_checks import base, overrides
from .hooks import Cohort, Component, Rows, ServerView, TrainedLayout

SERVER_RULES = class_registry("server rule", "ServerRule", lambda: ServerRule)


@base
@dataclass(frozen=True)
class ServerRule(Component):
    """Base of the server's rules; D is the weighted mean of the clients' updates."""

    rehearses: ClassVar[bool] = False  # the cohort trains twice per round, the first time for D
    _derived: ClassVar[tuple[str, ...]] = ("whole",)

    @property
    def whole(self) -> bool:
        """Whether it needs the updates of the whole cohort at once, for `reweigh`."""
        return overrides(self, "reweigh", ServerRule)

    def start_moment(self) -> float | None:
        """What the second moment starts at, None for tau^2 of the kernel."""
        return None

    def kernel(self, lr: float) -> kernels.Server:
        """The rule as `kernels.aggregate` takes it, with server learning rate `lr`."""
        return kernels.Server("average", lr=lr)

    def send(
        self, server: ServerView, round: int, rehearsed: Tensor | None, out: Tensor, backend: str
    ) -> None:
        """Write the model that clients receive to `out` [trained], which holds `server.w`.

        rehearsed  [trained] float64, the mean update of the rehearsal, when there was one
        """

    def reweigh(
        self, models: Tensor, start: Tensor, cohort: Cohort, layout: TrainedLayout, backend: str
    ) -> tuple[Tensor, Rows]:
        """The weights [C] or [L, C] of the updates, and numbers worth keeping.

        models  [C, trained], the clients' models; start [trained], the model they received
        cohort  with `train_loss`, `numbers` and, where the rule sets `start_losses = True`,
                `start_loss`
        """
        raise TypeError(f"{self.name} weighs every client by itself")


@SERVER_RULES.register("average")
@dataclass(frozen=True)
class Average(ServerRule):
    """`w <- w + eta_g D`."""
