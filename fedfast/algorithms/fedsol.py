"""FedSOL. Lee et al., "FedSOL: Stabilized Orthogonal Learning with Proximal Restrictions in
Federated Learning", CVPR 2024.

    client   p = grad at v of KL(softmax(z_w / T) || softmax(z_v / T)),   z the logits on the batch
             e = rho s * p / (|p| + eps);   s = 1 (fixed), or |v - w| with every tensor normalised
             along its first dimension (adaptive)
             v <- v - eta (grad CE at v + e + wd v)       (same batch)
    server   as FedAvg

p and |p| are those of the last linear layer, the head, alone, or of the whole model. At v = w the
divergence is flat: p is written so that it is exactly 0 there, and so is e (a computed gradient of
the divergence would be rounding noise, normalised to length rho). T = 3, without the factor T^2.
Client state none; server state w; two gradients per step and one forward pass of w; one model down,
one up. The authors' settings: rho 1, lr 0.01, lr_decay 0.99, momentum 0.9, weight_decay 1e-5, 5
epochs of batches of 50.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..kernels import norms, perturb, stats
from ..lr_schedules import Schedulable
from ._parameter_checks import check_number, check_schedule, check_word
from .base import ALGORITHMS, Algorithm
from .hooks import Clients, Rows, TrainedLayout
from .objective import Divergence, Objective
from .optimizers import OPTIMIZERS, Optimizer

FLAT = 1e-12  # the least length that divides, as in torch's `normalize`


@OPTIMIZERS.register("proximal-sam")
@dataclass(frozen=True)
class ProximalSAM(Optimizer):
    """The gradient at a model perturbed along a proximal gradient.

    perturbed  "head" or "all"
    strength   "fixed" or "adaptive"
    """

    rho: Schedulable = 1.0
    T: float = 3.0
    perturbed: str = "head"
    strength: str = "fixed"
    eps: float = 1e-12

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule("rho", self.rho)
        check_number("T", self.T, above=True)
        check_number("eps", self.eps)
        check_word("perturbed", self.perturbed, ("head", "all"))
        check_word("strength", self.strength, ("fixed", "adaptive"))

    @property
    def own_loss(self) -> str:
        """Layer programs have the divergence; not what a class of one's own makes of it."""
        return self._loss_beside(ProximalSAM)

    def client_values(self, layout: TrainedLayout) -> Rows:
        """Nothing; raises ValueError for a model without a head."""
        if self.perturbed == "head" and layout.head[1] == 0:
            raise ValueError(
                "perturbed: expected a model whose last Linear has trained tensors of its own, to "
                "perturb the head alone; this one has none, 'all' perturbs the whole model"
            )
        return {}

    def scratch_rows(self) -> tuple[str, ...]:
        """The scaled direction."""
        return ("scaled",) if self.strength == "adaptive" else ()

    def objective(self, at: Clients, looking: bool) -> Objective | None:
        """The divergence for the first gradient, the run's loss for the second."""
        return Divergence(at.start, self.T, self._looked_at(at)) if looking else None

    def _looked_at(self, at: Clients) -> tuple[int, int]:
        """The columns of the first gradient that are read: by a class of one's own maybe all."""
        return self._span(at) if type(self) is ProximalSAM else (0, at.layout.trained)

    def _span(self, at: Clients) -> tuple[int, int]:
        """The columns that are perturbed."""
        return at.layout.head if self.perturbed == "head" else (0, at.layout.trained)

    def ascend(self, at: Clients, g: Tensor | None, out: Tensor) -> None:
        """`out = w + rho s p / (|p| + eps)` on what is perturbed."""
        assert g is not None
        a, b = self._span(at)
        p, length = g[:, a:b], None
        if self.strength == "adaptive":
            length = norms(stats(p, backend=at.backend))
            p = self._scaled(at, g, (a, b))[:, a:b]
        out.copy_(at.w)
        perturb(
            at.w[:, a:b],
            p,
            at.of_round(self.rho),
            out=out[:, a:b],
            eps=self.eps,
            norm=length,
            backend=at.backend,
        )

    def _scaled(self, at: Clients, g: Tensor, span: tuple[int, int]) -> Tensor:
        """`g` times |v - w| normalised along each tensor's first dimension."""
        out = at.scratch["scaled"].zero_()
        for (begin, end), shape in zip(at.layout.segments.spans, at.layout.shapes, strict=True):
            if span[0] <= begin < min(end, span[1]):
                part = out[:, begin:end]
                torch.sub(at.w[:, begin:end], at.start[begin:end], out=part).abs_()
                columns = part.view(len(at), shape[0] if shape else 1, -1)
                columns.div_(_lengths(columns).clamp_min_(FLAT))
                part.mul_(g[:, begin:end])
        return out


def _lengths(x: Tensor) -> Tensor:
    """`|x[k, :, j]|`, of each client the same whatever K. [K, n, m] -> [K, 1, m]"""
    if x.device.type == "cpu":
        return torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return _added_in_pairs(x.square()).sqrt()  # torch's own order there depends on K


def _added_in_pairs(x: Tensor) -> Tensor:
    """The sum along dimension 1, which it keeps, level by level; `x` is overwritten."""
    while (n := x.shape[1]) > 1:
        half = (n + 1) // 2
        x[:, : n - half] += x[:, half:]
        x = x[:, :half]
    return x


@ALGORITHMS.register("fedsol")
@dataclass(frozen=True)
class FedSOL(Algorithm):
    """Clients that learn where the proximal objective is flat; see `ProximalSAM`.

    rho 1 (the authors' setting); `perturbed="all"` is their configuration, "head" their paper's
    partial perturbation.
    """

    local: Optimizer = field(init=False, default_factory=ProximalSAM)
    rho: Schedulable = 1.0
    T: float = 3.0
    perturbed: str = "head"
    strength: str = "fixed"
    eps: float = 1e-12
    momentum: float = 0.0

    def __post_init__(self) -> None:
        local = ProximalSAM(
            rho=self.rho,
            T=self.T,
            perturbed=self.perturbed,
            strength=self.strength,
            eps=self.eps,
            momentum=self.momentum,
        )
        self.compose(local=local)
