"""FedLESAM, FedLESAM-S, FedLESAM-D. Fan et al., "Locally Estimated Global Perturbations are Better
than Local Perturbations for Federated Sharpness-aware Minimization", ICML 2024.

    client   e = rho (w_old - w) / (|w_old - w| + eps)      once per round, no gradient
             v <- v - eta (grad at v + e, corrected);   w_old <- w
    server   as FedAvg (-S: SCAFFOLD, -D: FedDyn)

w_old is the global model that the client received in its previous active round; w_old - w is minus
the global movement since then, an estimate of the global gradient. In a client's first round e = 0.
-S corrects by `c - c_i`, -D by `lam (h_i + v - w)`.
Client state w_old (-S: c_i, -D: h_i); server state w (-S: c, -D: mean of h); one gradient per step;
one model down, one up (-S: two each).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from ..kernels import mix, perturb
from ..lr_schedules import Schedulable, at_round
from ._parameter_checks import check_number, check_schedule
from .base import ALGORITHMS, Algorithm
from .drift import Drift
from .feddyn import Dual
from .fedgloss import ServerSAM
from .hooks import Clients, Composition, Rows
from .optimizers import OPTIMIZERS, Optimizer
from .row_calls import RecordedAscent, RowCall, origin
from .scaffold import ControlVariate


@OPTIMIZERS.register("lesam")
@dataclass(frozen=True)
class LESAM(Optimizer):
    """The gradient at `v + e` with one e per round, from the global models a client has seen."""

    rho: Schedulable = 0.01
    eps: float = 1e-12

    looks: ClassVar[bool] = False
    in_place: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule("rho", self.rho)
        check_number("eps", self.eps)

    def refuses(self, algorithm: Composition) -> str:
        """It takes the models it was sent for the global ones."""
        if isinstance(algorithm.server, ServerSAM):
            return f"lesam under {algorithm.server.name}, which sends perturbed models"
        return super().refuses(algorithm)

    def client_rows(self) -> Mapping[str, str]:
        """w_old; the model sent, where it is the first."""
        return {"w_old": "start"}

    def scratch_rows(self) -> Sequence[str]:
        """e."""
        return ("e",)

    def begin(self, at: Clients) -> None:
        """`e = rho (w_old - w) / (|w_old - w| + eps)`."""
        if not at.recorded:
            self._offset(at).apply(at.backend)

    def _offset(self, at: Clients) -> RowCall:
        terms = [(at.came["w_old"], 1.0), (at.start, -1.0)]
        rows = origin(at.start), terms, at_round(self.rho, at.round)
        return RowCall(perturb, rows, dict(out=at.scratch["e"], eps=self.eps))

    def ascend(self, at: Clients, g: Tensor | None, out: Tensor) -> None:
        """`out = v + e`."""
        mix(at.w, at.scratch["e"], out=out, backend=at.backend)

    def recorded(self, at: Clients, own: Tensor) -> RecordedAscent:
        """e before the first step, and an addition at each."""
        e, out = at.scratch["e"], dict(out=at.ahead)
        first, later = (RowCall(mix, (w, e), out) for w in (at.w, own))
        return RecordedAscent([first], [later], begin=[self._offset(at)])

    def finish(self, at: Clients) -> Rows:
        """`w_old <- w`."""
        at.kept["w_old"].copy_(at.start)
        return {}


@ALGORITHMS.register("fedlesam")
@dataclass(frozen=True)
class FedLESAM(Algorithm):
    """rho 0.01 in FedWMSAM's comparison, 0.5 in the authors' example of -S."""

    local: Optimizer = field(init=False, default_factory=LESAM)
    rho: Schedulable = 0.01
    eps: float = 1e-12

    official: ClassVar[tuple[int, int] | None] = (2, 1)

    def __post_init__(self) -> None:
        self.compose(local=LESAM(rho=self.rho, eps=self.eps))


@ALGORITHMS.register("fedlesam-s")
@dataclass(frozen=True)
class FedLESAMS(Algorithm):
    """FedLESAM under SCAFFOLD's control variates, with their full weight."""

    local: Optimizer = field(init=False, default_factory=LESAM)
    drift: Drift = field(init=False, default_factory=ControlVariate)
    rho: Schedulable = 0.01
    eps: float = 1e-12
    steps: float | None = None

    def __post_init__(self) -> None:
        local = LESAM(rho=self.rho, eps=self.eps)
        self.compose(local=local, drift=ControlVariate(steps=self.steps))


@ALGORITHMS.register("fedlesam-d")
@dataclass(frozen=True)
class FedLESAMD(Algorithm):
    """FedLESAM under FedDyn's duals."""

    local: Optimizer = field(init=False, default_factory=LESAM)
    drift: Drift = field(init=False, default_factory=Dual)
    rho: Schedulable = 0.01
    eps: float = 1e-12
    lam: float = 0.1
    clip: str = "linear"

    def __post_init__(self) -> None:
        local = LESAM(rho=self.rho, eps=self.eps)
        self.compose(local=local, drift=Dual(self.lam, self.clip))
