"""FedGH: gradient harmonization of conflicting clients at the server (arXiv 2309.06692).

    for pairs i, j of clients whose updates conflict, G_i . G_j < 0:
        G_i <- G_i - (G_i . R_j) / |R_j|^2 R_j;     G_j <- G_j - (G_j . R_i) / |R_i|^2 R_i
    w <- w + eta_g sum_k p_k G_k                      G_k = D_k = v_K - w at first

The published rule leaves open what R is, in which order pairs come, and whether whole models or
single tensors are compared; here these are options. Every G_i stays a combination of the D_j, so
the recursion runs on C x C coefficients and Gram matrices: two passes over [C, S] in all.
After one pair is settled another may conflict again: the counts afterwards need not be 0.
Client state none; server state w; one gradient per step; one model down, one up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..kernels.harmonize import averaged, averaged_weights, harmonize, projected
from ..random import ORDER, keys64
from ..transfers import sent_to
from ._parameter_checks import check_number, check_word
from .base import ALGORITHMS, Algorithm
from .hooks import Cohort, Composition, Rows, ServerView, TrainedLayout
from .servers import SERVER_RULES, ServerRule

COUNTS = ("conflicts_before", "conflicts_after")


@SERVER_RULES.register("harmonized")
@dataclass(frozen=True)
class Harmonized(ServerRule):
    """Conflicting updates are projected on each other's normal planes before the mean.

    granularity  "model": whole updates; "tensor": every tensor by itself
    reference    R: "pair", the two values before this pair; "current", so that G_j meets the G_i
                 already projected; "original", the updates D, all corrections of a client averaged
                 (then the order does not matter)
    order        of the pairs i < j of client ids: "ascending", "descending", or "random", drawn
                 per round
    momentum     server momentum over the harmonized mean
    """

    granularity: str = "model"
    reference: str = "pair"
    order: str = "ascending"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_word("granularity", self.granularity, ("model", "tensor"))
        check_word("reference", self.reference, ("pair", "current", "original"))
        check_word("order", self.order, ("ascending", "descending", "random"))
        check_number("momentum", self.momentum, 0.0, 1.0)

    def refuses(self, algorithm: Composition) -> str:
        """A conflict takes two."""
        alone = "harmonized where all data is one client's: there is nobody to conflict with"
        return alone if algorithm.pools else ""

    def kernel(self, lr: float) -> kernels.Server:
        """The mean, or FedAvgM's momentum over it."""
        if self.momentum:
            return kernels.Server("momentum", lr=lr, beta1=self.momentum)
        return kernels.Server("average", lr=lr)

    def server_scalars(self) -> Mapping[str, float]:
        """Conflicting pairs of the last round, summed over tensors where these are compared."""
        return dict.fromkeys(COUNTS, 0.0)

    def reweigh(
        self, models: Tensor, start: Tensor, cohort: Cohort, layout: TrainedLayout, backend: str
    ) -> tuple[Tensor, Rows]:
        """`sum_k p_k G_k` as weights of the D_k: [C], or [L, C] by tensor."""
        segments = layout.segments if self.granularity == "tensor" else None
        gram = kernels.gram(models, start, segments=segments, backend=backend)
        weights, counts = self._settled(gram.reshape(-1, *gram.shape[-2:]), cohort, backend)
        numbers = dict(zip(COUNTS, counts.sum(0).unbind(), strict=True))
        return weights if segments is not None else weights[0], numbers

    def settle(self, server: ServerView, cohort: Cohort, numbers: Rows) -> None:
        """Keep the counts."""
        for name in COUNTS:
            server.settle_scalar(name, numbers[name])

    def _settled(self, gram: Tensor, cohort: Cohort, backend: str) -> tuple[Tensor, Tensor]:
        """(weights of the D_k [L, C], conflicts before and after [L, 2]); see `harmonize`."""
        if self.reference == "original":
            return averaged_weights(gram, cohort.weights)
        pairs = sent_to(torch.from_numpy(self._pairs(cohort)), gram.device)
        together = self.reference == "pair"
        return harmonize(gram, cohort.weights, pairs, together, backend)

    def harmonize(self, gram: np.ndarray, cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
        """(coefficients of the G in the D, Gram matrices of the G), both [L, C, C].

        gram  [L, C, C] of the D; L is 1 where whole models are compared
        """
        if self.reference == "original":
            mixing, after = averaged(torch.from_numpy(gram))
            return mixing.numpy(), after.numpy()
        return projected(gram, self._pairs(cohort), self.reference == "pair")

    def _pairs(self, cohort: Cohort) -> np.ndarray:
        """Pairs of positions in the cohort, by ascending client ids whatever the cohort's order.
        [n, 2] int32"""
        pairs = np.argsort(cohort.ids)[np.stack(np.triu_indices(len(cohort), 1), axis=1)]
        if self.order == "descending":
            pairs = pairs[::-1]
        elif self.order == "random":
            server = np.zeros(1, dtype=np.int64)
            keys = keys64(cohort.seed, cohort.round, server, ORDER, len(pairs))[0]
            pairs = pairs[np.argsort(keys, kind="stable")]
        return np.ascontiguousarray(pairs, dtype=np.int32)


@ALGORITHMS.register("fedgh")
@dataclass(frozen=True)
class FedGH(Algorithm):
    """FedAvg's clients, or any others, under harmonization; see `Harmonized`."""

    server: ServerRule = field(init=False, default_factory=Harmonized)
    granularity: str = "model"
    reference: str = "pair"
    order: str = "ascending"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        options = self.granularity, self.reference, self.order, self.momentum
        self.compose(server=Harmonized(*options))
