"""How FedALA's clients learn their weights A: passes over slices of their samples.

    W = W_l + (W_g - W_l) * A;     A <- clamp(A - eta (dL/dW) * (W_g - W_l), 0, 1)

Whose losses have settled is decided where the losses are. On the CPU the host looks after every
pass, and leaves out who is done; on a device it looks at few: in between, clients that are done are
masked, their A stays what it is, and a look that comes late costs time but changes nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..random import SLICE, Ints, keys64
from ..square_root import square_root
from ..transfers import sent_to
from .hooks import Clients

RECENT = 10  # losses whose deviation decides convergence
PASSES = 100  # a loss that noise (dropout) keeps from converging ends here
PER_PASS = 1 << 13  # batches a pass may have before its random numbers repeat
APART = 10  # passes on a device from one look at who is done to the next


@dataclass(frozen=True)
class Slices:
    """A part of each client's samples, cut into batches: index [K, T, B], count [K, T]."""

    index: np.ndarray
    count: np.ndarray

    @classmethod
    def drawn(cls, at: Clients, percent: float) -> Slices:
        """So much of the samples, one after another, from a place drawn by (seed, round, id)."""
        sizes = at.on_host.sizes.numpy().astype(np.int64)
        some = np.maximum(1, (sizes * percent / 100).astype(np.int64))
        key = keys64(at.seed, at.round, at.ids, SLICE, 1)[:, 0]
        first = (key % (sizes - some + 1).astype(np.uint64)).astype(np.int64)
        width = at.probe.width
        slot = np.arange(-(-int(some.max()) // width) * width).reshape(-1, width)
        real = slot[None] < some[:, None, None]
        return cls(np.where(real, first[:, None, None] + slot[None], 0), real.sum(-1))


class Mixing:
    """W of K clients on the columns `span` of their rows: the last tensors, which adapt."""

    def __init__(self, at: Clients, span: slice) -> None:
        self.span, self.weights = span, at.values["A"]
        self._mine = at.own["W_l"][:, span]
        self._gap = at.start[span] - self._mine

    def of(self, rows: Tensor) -> Tensor:
        """`W_l + (W_g - W_l) * A` of the clients at `rows` [k]. [k, n]"""
        return self._mine[rows] + self._gap[rows] * self.weights[rows]

    def descend(self, rows: Tensor, g: Tensor, eta: float, learning: Tensor | None) -> None:
        """Their A by the gradients [k, n]; of those alone who are `learning` [k], where given."""
        before = self.weights[rows]
        after = (before - g * self._gap[rows] * eta).clamp(0.0, 1.0)
        if learning is not None:
            after = after.where(learning[:, None], before)
        self.weights[rows] = after


class Learner:
    """Learns the weights of the clients at positions `live` in passes, in the rows `out` [K, S].

    learning  [K] bool, who of them is to learn, on a device; None: all, and who is done is dropped
    """

    def __init__(
        self, at: Clients, out: Tensor, mixing: Mixing, slices: Slices, learning: Tensor | None
    ) -> None:
        self.at, self.out, self.mixing, self.slices = at, out, mixing, slices
        self.learning = learning
        self._latest = torch.zeros(len(at), dtype=torch.float64, device=out.device)
        self._recent: deque[Tensor] = deque(maxlen=RECENT)

    def learn(self, live: Ints, once: np.ndarray, eta: float, threshold: float) -> None:
        """Passes until all have settled; clients that are `once` [K] make one."""
        for n in range(PASSES):
            self._pass(live, eta, n)
            if n == 0:
                live = live[~once[live]]
            if len(live):
                live = self._left(live, self._settled(threshold), n)
            if not len(live):
                break

    def _pass(self, live: Ints, eta: float, n: int) -> None:
        """One pass over the slices of the clients `live`."""
        at, index, count = self.at, self.slices.index, self.slices.count
        for s in range(index.shape[1]):
            now = live[count[live, s] > 0]
            if not len(now):
                break
            # Whoever is left moves up: the rest of these rows is W_g for everybody.
            w, g = self.out[: len(now)], at.g[: len(now)]
            rows, columns = sent_to(torch.from_numpy(now), w.device), self.mixing.span
            w[:, columns] = self.mixing.of(rows)
            losses = at.probe(at.ids[now], index[now, s], count[now, s], w, g, n * PER_PASS + s)
            self._latest[rows] = losses.double()
            learning = None if self.learning is None else self.learning[rows]
            self.mixing.descend(rows, g[:, columns], eta, learning)

    def _settled(self, threshold: float) -> Tensor:
        """Whose losses, of a pass's last batch, have converged or diverged for good. [K] bool"""
        diverged = ~self._latest.isfinite()
        enough = len(self._recent) == RECENT  # before this pass
        self._recent.append(self._latest.clone())
        if not enough:
            return diverged
        return diverged | (deviation(torch.stack([*self._recent])) < threshold)

    def _left(self, live: Ints, settled: Tensor, n: int) -> Ints:
        """Who makes another pass, of those `live`: on a device, some that are masked too."""
        if self.learning is None:
            return live[~settled.numpy()[live]]
        self.learning &= ~settled
        if n < RECENT or n % APART:
            return live
        return live[self.learning.cpu().numpy()[live]]


def deviation(losses: Tensor) -> Tensor:
    """NumPy's standard deviation of ten losses, on the CPU to the bit. [10, K] -> [K]"""
    apart = losses - _sum(losses) / RECENT
    return square_root(_sum(apart * apart) / RECENT)


def _sum(values: Tensor) -> Tensor:
    """Of ten rows in NumPy's order: eight by pairs, then the other two."""
    pairs = values[0:8:2] + values[1:8:2]
    fours = pairs[0::2] + pairs[1::2]
    return fours[0] + fours[1] + values[8] + values[9]
