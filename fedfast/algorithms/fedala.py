"""FedALA. Zhang et al., "FedALA: Adaptive Local Aggregation for Personalized Federated Learning",
AAAI 2023.

    client   before training, on a random contiguous s % of its samples, W_l its own last model:
             W = W_g, but for the last p tensors  W = W_l + (W_g - W_l) * A       (eq. 4)
             A <- clamp(A - eta (dL/dW) * (W_g - W_l), 0, 1)  after every batch   (eq. 5)
             then v_0 = W and local steps; W_l <- v_K
    server   w <- w + eta_g sum_k p_k (v_K - w)

A is 1 at first. In a client's first active call passes are made until the standard deviation of the
last ten losses (of a pass's last batch, after more than ten) is below `threshold`, at most 100;
later calls make one pass. A client whose first tensor is still the global one, as in round 0,
starts at W_g and learns nothing. W_l is the initial model before the first participation; running
statistics come from the server. Only a round's cohort adapts (the authors' loop: everybody).
Client state W_l, A; server state w; one gradient per step and per batch of the slice; one model
down, one up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..random import SLICE, keys64
from ._parameter_checks import check_count, check_number
from .base import ALGORITHMS, Algorithm
from .hooks import Clients, TrainedLayout

RECENT = 10  # losses whose deviation decides convergence
PASSES = 100  # a loss that noise (dropout) keeps from converging ends here
PER_PASS = 1 << 13  # batches a pass may have before its random numbers repeat


@ALGORITHMS.register("fedala")
@dataclass(frozen=True)
class FedALA(Algorithm):
    """Clients learn how much of the global model they take, tensor entry by tensor entry.

    eta        learning rate of A
    s          percent of the local samples, in (0, 100]
    p          how many of the model's last tensors adapt (a linear layer has two)
    threshold  0.1 in the authors' module, 0.01 in FedFSA's copy
    Any local optimizer trains afterwards: `FedALA(local=FSA())` is FedFSA's combination (FSA scores
    the way from W_g, the mixing included).
    """

    eta: float = 1.0
    s: float = 80.0
    p: int = 2
    threshold: float = 0.1

    def __post_init__(self) -> None:
        check_number("eta", self.eta)
        check_number("s", self.s, 0.0, 100.0, above=True)
        check_count("p", self.p, 1)
        check_number("threshold", self.threshold, above=True)
        self.compose()

    def client_rows(self) -> dict[str, str]:
        """W_l."""
        return super().client_rows() | {"W_l": "model"}

    def client_values(self, layout: TrainedLayout) -> dict[str, Tensor]:
        """A on the last p tensors, and whether it has been learned once."""
        if self.p > len(layout.names):
            raise ValueError(f"p: expected at most {len(layout.names)} tensors; got {self.p}")
        a = self._first(layout)
        weights = torch.ones(layout.trained - a, dtype=layout.dtype)
        return super().client_values(layout) | {"A": weights, "begun": torch.tensor(False)}

    def starts(self, at: Clients, out: Tensor) -> bool:
        """W, by adaptive local aggregation."""
        out.copy_(at.start)
        first = slice(*at.layout.segments.spans[0])
        moved = (at.own["W_l"][:, first] != at.start[first]).any(dim=1)
        active = moved.cpu().numpy().nonzero()[0]
        if len(active):
            self._learn(at, out, active)
            out.copy_(at.start)
            out[torch.from_numpy(active), self._first(at.layout) :] = self._mixed(at, active)
        return True

    def _first(self, layout: TrainedLayout) -> int:
        """Where the last p tensors begin."""
        return layout.segments.spans[-self.p][0]

    def _gap(self, at: Clients, who: np.ndarray) -> tuple[Tensor, Tensor]:
        """(W_l, W_g - W_l) of the clients at positions `who`, last p tensors. [k, n] each"""
        a, b = self._first(at.layout), at.layout.trained
        mine = at.own["W_l"][torch.from_numpy(who), a:b]
        return mine, at.start[a:b] - mine

    def _mixed(self, at: Clients, who: np.ndarray) -> Tensor:
        """`W_l + (W_g - W_l) * A`. [k, n]"""
        mine, gap = self._gap(at, who)
        return mine + gap * at.values["A"][torch.from_numpy(who)]

    def _learn(self, at: Clients, out: Tensor, active: np.ndarray) -> None:
        """Passes over the slices, until every active client has converged or made its one."""
        index, count = self._slices(at)
        begun = at.values["begun"].cpu().numpy()
        recent: dict[int, list[float]] = {int(k): [] for k in active}
        live = active
        for n in range(PASSES):
            latest = self._pass(at, out, live, index, count, n)
            for k, loss in zip(live.tolist(), latest.tolist(), strict=True):
                recent[k].append(loss)
            live = np.array([k for k in live if not begun[k] and not self._settled(recent[k])])
            if not len(live):
                break
        at.values["begun"][torch.from_numpy(active)] = True

    def _settled(self, losses: list[float]) -> bool:
        """Whether the losses have converged, or diverged for good."""
        enough = len(losses) > RECENT and float(np.std(losses[-RECENT:])) < self.threshold
        return enough or not np.isfinite(losses[-1])

    def _pass(
        self,
        at: Clients,
        out: Tensor,
        live: np.ndarray,
        index: np.ndarray,
        count: np.ndarray,
        n: int,
    ) -> np.ndarray:
        """One pass over the slices of the clients `live`; the losses of their last batches."""
        a, b = self._first(at.layout), at.layout.trained
        latest = np.zeros(len(at))
        for s in range(index.shape[1]):
            now = live[count[live, s] > 0]
            if not len(now):
                break
            # Whoever is left moves up: the rest of these rows is W_g for everybody.
            w, g, rows = out[: len(now)], at.g[: len(now)], torch.from_numpy(now)
            w[:, a:b] = self._mixed(at, now)
            losses = at.probe(at.ids[now], index[now, s], count[now, s], w, g, n * PER_PASS + s)
            latest[now] = losses.double().cpu().numpy()
            descent = g[:, a:b] * self._gap(at, now)[1] * self.eta
            at.values["A"][rows] = (at.values["A"][rows] - descent).clamp(0.0, 1.0)
        return latest[live]

    def _slices(self, at: Clients) -> tuple[np.ndarray, np.ndarray]:
        """Each client's slice cut into batches: index [K, T, B], count [K, T]."""
        sizes = at.sizes.cpu().numpy().astype(np.int64)
        some = np.maximum(1, (sizes * self.s / 100).astype(np.int64))
        key = keys64(at.seed, at.round, at.ids, SLICE, 1)[:, 0]
        first = (key % (sizes - some + 1).astype(np.uint64)).astype(np.int64)
        width = at.probe.width
        slot = np.arange(-(-int(some.max()) // width) * width).reshape(-1, width)
        real = slot[None] < some[:, None, None]
        return np.where(real, first[:, None, None] + slot[None], 0), real.sum(-1)
