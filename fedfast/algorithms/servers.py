"""`ServerRule`: from the clients' updates to the next global model. The base takes the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .. import kernels
from .pieces import Cohort, Layout, Piece, Rows, Server


@dataclass(frozen=True)
class ServerRule(Piece):
    """Base of the server's rules; D is the weighted mean of the clients' updates."""

    whole: ClassVar[bool] = False  # it needs the updates of the whole cohort at once
    rehearses: ClassVar[bool] = False  # the cohort trains twice per round, the first time for D

    def kernel(self, lr: float) -> kernels.Server:
        """The rule as `kernels.aggregate` takes it, with server learning rate `lr`."""
        return kernels.Server("average", lr=lr)

    def send(
        self, server: Server, round: int, rehearsed: Tensor | None, out: Tensor, backend: str
    ) -> None:
        """Write the model that clients receive to `out` [trained], which holds `server.w`.

        rehearsed  [trained] float64, the mean update of the rehearsal, when there was one
        """

    def reweigh(
        self, models: Tensor, start: Tensor, cohort: Cohort, layout: Layout, backend: str
    ) -> tuple[Tensor, Rows]:
        """With `whole`: the weights [C] or [L, C] of the updates, and numbers worth keeping.

        models  [C, trained], the clients' models; start [trained], the model they received
        """
        raise TypeError(f"{self.name} weighs every client by itself")


@dataclass(frozen=True)
class Average(ServerRule):
    """`w <- w + eta_g D`."""

    name: ClassVar[str] = "average"
