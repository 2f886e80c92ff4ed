"""Strategies for Flower's ServerApp whose server is fedfast's: FedGloSS, FedGH, FedNSAM, and
`AlgorithmStrategy` for any other algorithm whose server needs its clients' models alone.

They need no fedfast at the clients: Flower's own simulation and deployment run them as they are.
What a client has to do is said with each.
"""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from torch import nn

from ...algorithms import FedGH as GH
from ...algorithms import FedGloSS as GloSS
from ...algorithms import FedNSAM as NSAM
from .algorithm_strategy import AlgorithmStrategy as AlgorithmStrategy


class FedGloSS(AlgorithmStrategy):
    """`w~ = w + rho D~ / |D~|` is sent; `w <- w - D~ - beta sigma`; see fedfast's FedGloSS.

    Clients take SGD or SAM steps and keep a dual: `clients.Dual`, three lines of a train function.
    `beta` joins the config of the messages.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        rho: float = 0.1,
        beta: float = 10.0,
        rho0: float = 0.001,
        T_s: int = 0,
        **options: object,
    ) -> None:
        algorithm = GloSS(rho=rho, beta=beta, rho0=rho0, T_s=T_s)
        super().__init__(model, algorithm, **options)  # type: ignore[arg-type]
        self.beta = beta

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """With `beta`, as clients need it."""
        config["beta"] = float(self.beta)
        return super().configure_train(server_round, arrays, config, grid)


class FedGH(AlgorithmStrategy):
    """Conflicting updates are projected on each other's normal planes; clients are anybody's.

    granularity, reference, order, momentum  as `fedfast.algorithms.FedGH` has them; pairs are
                                             ordered by node id
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        granularity: str = "model",
        reference: str = "pair",
        order: str = "ascending",
        momentum: float = 0.0,
        **options: object,
    ) -> None:
        algorithm = GH(granularity=granularity, reference=reference, order=order, momentum=momentum)
        super().__init__(model, algorithm, **options)  # type: ignore[arg-type]


class FedNSAM(AlgorithmStrategy):
    """`w + gamma m` is sent; `m <- gamma m + D`, `w <- w + m`. Clients take SAM steps."""

    def __init__(self, model: nn.Module, *, gamma: float = 0.85, **options: object) -> None:
        super().__init__(model, NSAM(gamma=gamma), **options)  # type: ignore[arg-type]
