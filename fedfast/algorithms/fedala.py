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
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..transfers import sent_to
from ._parameter_checks import check_count, check_number
from .adaptive_mixing import Learner, Mixing, Slices
from .base import ALGORITHMS, Algorithm
from .hooks import Clients, TrainedLayout


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

    on_host: ClassVar[frozenset[str]] = frozenset({"begun"})

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
        span = self._span(layout)
        weights = torch.ones(span.stop - span.start, dtype=layout.dtype)
        return super().client_values(layout) | {"A": weights, "begun": torch.tensor(False)}

    def starts(self, at: Clients, out: Tensor) -> bool:
        """W, by adaptive local aggregation.

        A device is waited for where a client may be in its first active call alone: once to know
        which are active, then as in `Learner`.
        """
        out.copy_(at.start)
        first, span = slice(*at.layout.segments.spans[0]), self._span(at.layout)
        active = (at.own["W_l"][:, first] != at.start[first]).any(dim=1)
        begun, on_cpu = at.values["begun"].numpy(), out.device.type == "cpu"
        live = np.arange(len(at))
        if on_cpu or not begun.all():
            live = active.cpu().numpy().nonzero()[0]
        if not len(live):
            return True
        mixing = Mixing(at, span)
        slices = Slices.drawn(at, self.s)
        learner = Learner(at, out, mixing, slices, None if on_cpu else active.clone())
        learner.learn(live, begun, self.eta, self.threshold)
        begun[live] = True
        rows, start = sent_to(torch.from_numpy(live), out.device), at.start[span]
        out[:, span] = start
        out[rows, span] = mixing.of(rows).where(active[rows, None], start)
        return True

    def _span(self, layout: TrainedLayout) -> slice:
        """Where the last p tensors lie."""
        return slice(layout.segments.spans[-self.p][0], layout.trained)
