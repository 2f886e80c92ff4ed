"""The clients' optimizers: where a step's gradient is taken, and local momentum.

One object serves under any algorithm: `FedAvg(local=SAM(rho=0.05))` is FedSAM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..kernels import Segments, perturb
from ._checks import check, check_number


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: `v <- v - eta * d`, one gradient per step.

    momentum  torch-style heavy ball, reset at the start of every round (the papers use 0)
    nesterov  Nesterov's form of it
    """

    momentum: float = 0.0
    nesterov: bool = False

    name: ClassVar[str] = "sgd"
    ascends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("momentum", self.momentum, 0.0, 1.0)
        check(
            not self.nesterov or self.momentum > 0,
            "nesterov",
            "False without momentum",
            self.nesterov,
        )

    def ascend(self, w: Tensor, g: Tensor, out: Tensor, segments: Segments, backend: str) -> None:
        """Write the model at which the step's gradient is taken. w, g, out: `[K, trained]`."""
        raise TypeError(f"{self.name} takes its gradient at the model itself")


@dataclass(frozen=True)
class SAM(SGD):
    """Sharpness-aware minimisation: the gradient at `v + rho * g / (|g| + eps)`, same mini-batch.

    One Euclidean norm over the whole model. rho: 0.1 is FL-Simulator's default and the ECCV paper's
    for CIFAR-10. eps: 1e-7 in FL-Simulator, 1e-12 in SAGM, FedSOL and FedNSAM, 1e-16 in FedGloSS;
    the papers have none.
    Source: Foret et al., "Sharpness-Aware Minimization", ICLR 2021, eq. 2.
    """

    rho: float = 0.1
    eps: float = 1e-12

    name: ClassVar[str] = "sam"
    ascends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("rho", self.rho)
        check_number("eps", self.eps)

    def ascend(self, w: Tensor, g: Tensor, out: Tensor, segments: Segments, backend: str) -> None:
        """`out = w + rho g / (|g| + eps)`."""
        perturb(w, g, self.rho, out=out, eps=self.eps, backend=backend)


@dataclass(frozen=True)
class ASAM(SGD):
    """Adaptive SAM: `e = rho * t^2 g / (|t g| + eps)`, `t = |v| + eta` on weights, 1 on biases.

    rho 0.7 and eta 0.2 are FedASAM's for CIFAR-10. "Weights" are the parameters with "weight" in
    their name.
    Source: Kwon et al., "ASAM", ICML 2021; Caldarola et al., ECCV 2022.
    """

    rho: float = 0.7
    eta: float = 0.2
    eps: float = 1e-16

    name: ClassVar[str] = "asam"
    ascends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for symbol in ("rho", "eta", "eps"):
            check_number(symbol, getattr(self, symbol))

    def ascend(self, w: Tensor, g: Tensor, out: Tensor, segments: Segments, backend: str) -> None:
        """`out = w + rho t^2 g / (|t g| + eps)`."""
        perturb(
            w,
            g,
            self.rho,
            out=out,
            segments=segments,
            eps=self.eps,
            adaptive=self.eta,
            backend=backend,
        )


Optimizer = SGD  # any of these: SAM and ASAM specialise it
OPTIMIZERS: dict[str, type[SGD]] = {o.name: o for o in (SGD, SAM, ASAM)}
