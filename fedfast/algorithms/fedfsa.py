"""FedFSA: layer-wise radii for personalized federated learning, after its paper and official code.

    client   u = clip(g);   e_l = rho_l u_l / (|u| + eps),  |u| over the whole model
             rho_l = rho_larger for the tensors on the client's Top list, else rho_default
             d = alpha grad(v + e) + (1 - alpha) m;   v <- v - eta (clip(d) + wd v)
             after training: s_l = mean over tensor l of (v_K - v_0)^2;  the TopC largest are the
             client's Top list for its next participation
    server   as MoFedSAM

Only weight tensors are scored, none of batch norm, downsampling or shortcuts. `variant="official"`
is the authors' code: scores of min-max normalised tensors, and a momentum divided by the run's
initial learning rate and multiplied by the decay once. Learning rates decay by `lr_decay` per local
epoch and participation: each client has its own. `select="reverse"` and "random" are the paper's
ablations. With rho_larger = rho_default, or TopC = 0, this is MoFedSAM.
Client state: its model, Top list and epochs done; server state w, m; two gradients per step; two
model sizes down (w, m), one up. A client's personal model is its own last one, stale until it takes
part again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..kernels import norms, perturb, sensitivity, stats
from ..random import SELECT, keys64
from ..transfers import sent_to
from ._parameter_checks import check_count, check_flag, check_number, check_word
from .base import ALGORITHMS, Algorithm
from .drift import DRIFTS, Drift
from .fedcm import ClientMomentum
from .hooks import Clients, Cohort, Rows, Sum, TrainedLayout
from .layer_radii import LayerRadii
from .optimizers import OPTIMIZERS, Optimizer

UNSCORED = ("bn", "downsample", "shortcut", "norm", "bias")  # parts of names that score 0


@OPTIMIZERS.register("fsa")
@dataclass(frozen=True)
class FSA(Optimizer):
    """SAM whose radius is larger on the tensors that changed most in the client's last round.

    clip_norm  largest norm of the ascent's gradient (official code: 10); it matters through eps
    normalize  scores on min-max normalised tensors
    """

    rho_default: float = 0.1
    rho_larger: float = 0.2
    TopC: int = 2
    eps: float = 1e-7
    clip_norm: float | None = None
    normalize: bool = False
    select: str = "top"

    def __post_init__(self) -> None:
        super().__post_init__()
        for symbol in ("rho_default", "rho_larger", "eps"):
            check_number(symbol, getattr(self, symbol))
        check_count("TopC", self.TopC)
        check_word("select", self.select, ("top", "reverse", "random"))
        check_flag("normalize", self.normalize)
        if self.clip_norm is not None:
            check_number("clip_norm", self.clip_norm, above=True)

    def client_values(self, layout: TrainedLayout) -> Rows:
        """Which tensors are on the Top list: none at first."""
        scored = int(_scored(layout).sum())
        if self.TopC > scored:
            many = f"at most {scored}, the model's weight tensors"
            raise ValueError(f"TopC: expected {many}; got {self.TopC}")
        return {"top": torch.zeros(len(layout.names), dtype=torch.bool)}

    def held_numbers(self, layout: TrainedLayout) -> tuple[int, int]:
        """rho_l."""
        return 0, len(layout.names)

    def ascend(self, at: Clients, g: Tensor | None, out: Tensor) -> None:
        """`out = w + rho_l u / (|u| + eps)`."""
        assert g is not None
        length = norms(stats(g, backend=at.backend))
        shrink = self._shrink(length)
        (radii,) = at.by_chunk(self._radii)
        perturb(
            at.w,
            [(g, 1.0 if shrink is None else shrink)],
            radii,
            out=out,
            segments=at.layout.segments,
            eps=self.eps,
            norm=length if shrink is None else length * shrink,
            backend=at.backend,
        )

    def radii(self, at: Clients) -> LayerRadii:
        """rho_l, and the clip."""
        (rho,) = at.by_chunk(self._radii)
        assert isinstance(rho, Tensor)
        limit = math.inf if self.clip_norm is None else self.clip_norm
        return LayerRadii(rho, self.eps, limit)

    def _radii(self, at: Clients) -> tuple[Tensor]:
        """rho_l. [K, L]"""
        large, small = (at.w.new_full((), r) for r in (self.rho_larger, self.rho_default))
        return (torch.where(at.values["top"], large, small),)

    def _shrink(self, length: Tensor) -> Tensor | None:
        """What a clip leaves of a gradient of this length. [K] float64"""
        if self.clip_norm is None:
            return None
        return (self.clip_norm / (length + 1e-6)).clamp(max=1.0)

    def finish(self, at: Clients) -> Rows:
        """Renew the Top list."""
        scores = self._scores(at)
        scored = sent_to(_scored(at.layout), scores.device)
        best = scores.masked_fill(~scored, -torch.inf).nan_to_num(nan=-torch.inf, posinf=torch.inf)
        order = best.sort(dim=1, descending=True, stable=True).indices[:, : self.TopC]
        at.values["top"].zero_().scatter_(1, order, True)
        return {}

    def _scores(self, at: Clients) -> Tensor:
        """What the TopC largest of are selected. [K, L] float64"""
        if self.select == "random":
            keys = keys64(at.seed, at.round, at.ids, SELECT, len(at.layout.names))
            return torch.from_numpy((keys >> np.uint64(11)).astype(np.float64)).to(at.w.device)
        segments, normalize = at.layout.segments, self.normalize
        scores = sensitivity(at.w, at.start, segments, normalize=normalize, backend=at.backend)
        return -scores if self.select == "reverse" else scores


def _scored(layout: TrainedLayout) -> Tensor:
    """Which tensors can be on a Top list. [L] bool"""
    return torch.tensor([not any(part in name for part in UNSCORED) for name in layout.names])


@DRIFTS.register("official-momentum")
@dataclass(frozen=True)
class OfficialMomentum(ClientMomentum):
    """m over the run's initial learning rate, decayed once, whatever rates the clients had."""

    decay: float = 1.0

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """`m <- -decay sum_k p_k D_k / (K_k eta_0)`."""
        scale = -self.decay / (cohort.steps * cohort.lr)
        return [Sum("m", cohort.weights * scale, keep=0.0)]


@ALGORITHMS.register("fedfsa")
@dataclass(frozen=True)
class FedFSA(Algorithm):
    """MoFedSAM with a larger radius on each client's most sensitive tensors.

    rho_default, rho_larger: 0.1, 0.2 for FMNIST and CIFAR-10; 0.05, 0.9 for CIFAR-100 and
    Tiny-ImageNet; 0.05, 1 with TopC 5 for ResNet-18.
    """

    local: Optimizer = field(init=False, default_factory=FSA)
    drift: Drift = field(init=False, default_factory=ClientMomentum)
    rho_default: float = 0.1
    rho_larger: float = 0.2
    TopC: int = 2
    alpha: float = 0.1
    lr_decay: float = 1.0
    eps: float = 1e-7
    select: str = "top"
    variant: str = "paper"

    verified: ClassVar[str] = "public run"

    def __post_init__(self) -> None:
        check_word("variant", self.variant, ("paper", "official"))
        check_number("lr_decay", self.lr_decay, 0.0, 1.0, above=True)
        official = self.variant == "official"
        local = FSA(
            rho_default=self.rho_default,
            rho_larger=self.rho_larger,
            TopC=self.TopC,
            eps=self.eps,
            clip_norm=10.0 if official else None,
            normalize=official,
            select=self.select,
        )
        drift = ClientMomentum(self.alpha)
        if official:
            drift = OfficialMomentum(self.alpha, decay=self.lr_decay)
        self.compose(local=local, drift=drift)

    def client_rows(self) -> dict[str, str]:
        """The client's own last model, as old as its last participation."""
        return super().client_rows() | {"v": "model"}

    @property
    def client_decay(self) -> float:
        """Rates decay by `lr_decay` per local epoch and participation."""
        return self.lr_decay
