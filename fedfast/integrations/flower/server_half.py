"""`ServerHalf`: what the server of an algorithm does, apart from who trains its clients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ... import FlatLayout, kernels
from ...algorithms import Algorithm, Cohort, TrainedLayout
from .server_rows import Replies, ServerRows, finite
from .server_scope import check_alone

NAN = float("nan")


class ServerHalf:
    """Sends, sums and steps as an algorithm's server does.

        sent = send(w)                          w~ of FedGloSS, w + gamma m of FedNSAM, else w
        row <- keep row + sum_k a_k (v_k - sent)   of each server row of the algorithm
        w <- w + rule(sum_k p_k (v_k - sent)) + rows that are added     p_k: by samples, or uniform

    Raises ValueError for an algorithm whose server needs more of its clients than their models.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        layout: FlatLayout,
        server_lr: float,
        by_samples: bool,
        seed: int,
    ) -> None:
        self.algorithm, self.layout, self.by_samples = algorithm, layout, by_samples
        self.rule, self.seed = algorithm.server.kernel(server_lr), seed
        self.visible = TrainedLayout.of(layout)
        check_alone(algorithm, self.visible)
        self.state = self._begin()

    def _begin(self) -> ServerRows:
        algorithm, w = self.algorithm, self.layout.bank(1, full=False)[0]
        moments = self.rule.moments
        v = torch.full_like(w, self.rule.tau**2) if moments > 1 else None
        begin = algorithm.server.start_moment()
        if v is not None and begin is not None:
            v.fill_(begin)
        rows = {name: torch.zeros_like(w) for name in algorithm.server_rows()}
        m = torch.zeros_like(w) if moments else None
        return ServerRows(w, m, v, rows, {}, dict(algorithm.server_scalars()))

    def send(self, row: Tensor, round: int) -> Tensor:
        """What clients receive where the model is `row`. [S] -> [S]; rounds count from 0"""
        out = row.clone()
        view = self.state.copy(row[: self.layout.trained])
        self.algorithm.server.send(view, round, None, out[: self.layout.trained], "auto")
        return out

    def step(
        self, row: Tensor, sent: Tensor, replies: Replies, population: int, round: int
    ) -> tuple[Tensor, np.ndarray]:
        """(the next model [S], positions of clients that sent something not finite).

        Those count as clients that did not move, and their models are overwritten. Where the next
        model would not be finite all the same, nothing changes and `row` is returned.
        """
        bad = (~finite(replies.models)).nonzero()[:, 0]
        replies.models[bad] = sent
        cohort = self._cohort(replies, population, round)
        new = torch.empty_like(row)
        after = self.state.copy(new[: self.layout.trained])
        self._conclude(row, sent, replies.models, cohort, new, after, len(cohort) - len(bad))
        if not (after.finite() and bool(finite(new[None]))):
            return row, bad.numpy()
        self.state = after
        return new, bad.numpy()

    def _conclude(
        self,
        row: Tensor,
        sent: Tensor,
        models: Tensor,
        cohort: Cohort,
        new: Tensor,
        after: ServerRows,
        counted: int,
    ) -> None:
        """Write the next state to `after` and `new`, whose trained part is `after.w`."""
        t, algorithm = self.layout.trained, self.algorithm
        clients, start = models[:, :t], sent[:t]
        for rule in algorithm.sums(cohort):
            kept = after.rows[rule.row].double() * (rule.keep - rule.fade * counted)
            after.rows[rule.row].copy_(kept + _summed(clients, rule.weights, start))
        numbers: dict[str, Tensor] = {}
        weights = cohort.weights
        if algorithm.server.whole:
            found = algorithm.server.reweigh(clients, start, cohort, self.visible, "auto")
            weights, numbers = found[0], dict(found[1])
        mean = self._mean(clients, weights, start)
        _end(mean, self.rule, row[:t], start, after.w, after.m, after.v)
        if self.layout.stride > t:
            rest = _summed(models[:, t:], cohort.weights, sent[t:])
            _end(rest, kernels.Server(), row[t:], sent[t:], new[t:])
        self.layout.settle(new)
        algorithm.settle(after, cohort, numbers)
        added = [(after.rows[name], c) for name, c in algorithm.added().items()]
        if added:
            kernels.step(after.w[None], added, -1.0)

    def _mean(self, models: Tensor, weights: Tensor, start: Tensor) -> Tensor:
        """`sum_k weights_k (v_k - start)`, by tensor where weights are [L, C]. [trained] float64"""
        if weights.ndim == 1:
            return _summed(models, weights, start)
        starts = [begin for begin, _ in self.visible.segments.spans]
        spans = zip(weights, starts, [*starts[1:], self.layout.trained], strict=True)
        return torch.cat([_summed(models[:, a:b], row, start[a:b]) for row, a, b in spans])

    def _cohort(self, replies: Replies, population: int, round: int) -> Cohort:
        unknown = torch.full_like(replies.sizes, NAN)
        return Cohort(
            round=round,
            lr=NAN,
            ids=replies.ids,
            sizes=replies.sizes,
            steps=unknown,
            weights=self.algorithm.weights(replies.sizes, self.by_samples),
            lr_total=unknown,
            epochs=1,
            population=population,
            seed=self.seed,
            backend="auto",
        )


def _summed(models: Tensor, weights: Tensor, start: Tensor) -> Tensor:
    acc = torch.empty(models.shape[1], dtype=torch.float64)
    kernels.aggregate(models, weights, start, acc=acc)
    return acc


def _end(
    mean: Tensor,
    rule: kernels.Server,
    w: Tensor,
    start: Tensor,
    out: Tensor,
    m: Tensor | None = None,
    v: Tensor | None = None,
) -> None:
    """The server's step from a complete mean: a client of weight 0, which did not move, ends it."""
    last = {"acc": mean, "first": False, "server": rule, "w": w, "m": m, "v": v, "out": out}
    kernels.aggregate(start[None], 0.0, start, **last)  # type: ignore[arg-type]
