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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..random import ORDER, keys64
from ..transfers import sent_to
from ._parameter_checks import check_number, check_word
from .base import ALGORITHMS, Algorithm
from .hooks import Cohort, Composition, Rows, ServerView, TrainedLayout
from .servers import SERVER_RULES, ServerRule

ROUNDING = 1e-12  # of the recursion, relative to |G_i| |G_j|: less than that is no conflict
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
        table = gram.reshape(-1, *gram.shape[-2:]).cpu().numpy()
        with np.errstate(invalid="ignore"):  # of models that are not finite; see `Engine.late`
            mixing, after = self.harmonize(table, cohort)
        mixed = torch.from_numpy(cohort.on_host.weights.cpu().numpy() @ mixing)
        weights = sent_to(mixed, cohort.weights.device)
        counts = (conflicts(table), conflicts(after))
        numbers = {name: torch.tensor(float(c)) for name, c in zip(COUNTS, counts, strict=True)}
        return weights if segments is not None else weights[0], numbers

    def settle(self, server: ServerView, cohort: Cohort, numbers: Rows) -> None:
        """Keep the counts."""
        server.scalars.update({name: float(numbers[name]) for name in COUNTS})

    def harmonize(self, gram: np.ndarray, cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
        """(coefficients of the G in the D, Gram matrices of the G), both [L, C, C].

        gram  [L, C, C] of the D; L is 1 where whole models are compared
        """
        if self.reference == "original":
            return _averaged(gram)
        mixing = np.broadcast_to(np.eye(gram.shape[-1]), gram.shape).copy()
        now = gram.copy()
        for i, j in self._pairs(cohort):
            _project(mixing, now, i, j, self.reference == "pair")
        return mixing, now

    def _pairs(self, cohort: Cohort) -> Iterator[tuple[int, int]]:
        """Pairs of positions in the cohort, by ascending client ids whatever the cohort's order."""
        pairs = np.argsort(cohort.ids)[np.stack(np.triu_indices(len(cohort), 1), axis=1)]
        if self.order == "descending":
            pairs = pairs[::-1]
        elif self.order == "random":
            server = np.zeros(1, dtype=np.int64)
            keys = keys64(cohort.seed, cohort.round, server, ORDER, len(pairs))[0]
            pairs = pairs[np.argsort(keys, kind="stable")]
        yield from (tuple(pair) for pair in pairs.tolist())


def conflicting(gram: np.ndarray) -> np.ndarray:
    """Which pairs conflict. [L, C, C] -> bool, same shape"""
    length = np.sqrt(np.diagonal(gram, axis1=1, axis2=2).clip(min=0.0))
    return gram < -ROUNDING * length[:, :, None] * length[:, None, :]


def conflicts(gram: np.ndarray) -> int:
    """Pairs that conflict, over all matrices. [L, C, C]"""
    return int(np.triu(conflicting(gram), 1).sum())


def _project(mixing: np.ndarray, gram: np.ndarray, i: int, j: int, together: bool) -> None:
    """Settle one pair, in place: rows i and j become `[[1, -a], [-b, 1]]` times themselves."""
    inner, ii, jj = gram[:, i, j], gram[:, i, i], gram[:, j, j]
    conflict = inner < -ROUNDING * np.sqrt((ii * jj).clip(min=0.0))
    if not conflict.any():
        return
    nothing = np.zeros_like(inner)
    a = np.divide(inner, jj, out=nothing.copy(), where=conflict)
    # Met by the G_i already projected, G_j is orthogonal to it: nothing is left to take away.
    b = np.divide(inner, ii, out=nothing.copy(), where=conflict) if together else nothing
    one = np.ones_like(a)
    turn = np.stack([np.stack([one, -a], -1), np.stack([-b, one], -1)], -2)  # [L, 2, 2]
    both = [i, j]
    mixing[:, both] = turn @ mixing[:, both]
    gram[:, both] = turn @ gram[:, both]
    gram[:, :, both] = gram[:, :, both] @ turn.swapaxes(-1, -2)


def _averaged(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every client less the mean of its projections on the updates it conflicts with."""
    conflict = conflicting(gram)
    norms = np.diagonal(gram, axis1=1, axis2=2)[:, None, :]
    share = np.divide(gram, norms, out=np.zeros_like(gram), where=conflict)
    mean = share / conflict.sum(-1, keepdims=True).clip(min=1)
    mixing = np.eye(gram.shape[-1]) - mean
    return mixing, mixing @ gram @ mixing.swapaxes(-1, -2)


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
