"""The round: schedule -> chunks of K clients' local steps -> aggregate -> server -> verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .data import FederatedData
from .kernels import Column
from .layout import FlatLayout
from .local import Batches, LocalTrainer
from .memory import Halving
from .schedule import Round


@dataclass(frozen=True)
class Outcome:
    """What one round did.

    train_loss   mean over the samples seen, at the model each step started from
    update_norm  Euclidean norm of the mean client update
    diverged     ids of clients whose model became non-finite
    finite       whether the new global model is
    """

    train_loss: float
    update_norm: float
    samples: int
    diverged: tuple[int, ...]
    finite: bool


class ServerState:
    """The global row and the server's moments; a round's new row is accepted or rejected."""

    def __init__(self, row: Tensor, trained: int, rule: kernels.Server) -> None:
        self.row, self.spare, self.trained = row, torch.empty_like(row), trained
        self.acc = torch.zeros(row.shape, dtype=torch.float64, device=row.device)
        self.m = torch.zeros_like(row[:trained]) if rule.moments > 0 else None
        self.v = torch.full_like(row[:trained], rule.tau**2) if rule.moments > 1 else None
        self._tau = rule.tau

    def accept(self) -> None:
        """The spare row becomes the global model."""
        self.row, self.spare = self.spare, self.row

    def reject(self) -> None:
        """Keep the model; moments that took part in a non-finite step start afresh."""
        if self.m is not None:
            self.m.zero_()
        if self.v is not None:
            self.v.fill_(self._tau**2)


class Engine:
    """Runs rounds; knows clients, chunks and weights, but neither users nor files."""

    def __init__(
        self,
        trainers: Halving[LocalTrainer],
        data: FederatedData,
        layout: FlatLayout,
        by_samples: bool,
        tolerant: bool,
    ) -> None:
        self.trainers, self.data, self.layout = trainers, data, layout
        self.by_samples, self.tolerant = by_samples, tolerant
        self.backend = self.trainer.settings.backend

    @property
    def trainer(self) -> LocalTrainer:
        """The owner of the live buffers, until memory runs out."""
        return self.trainers.use(lambda trainer, _: trainer)

    def round(
        self, t: int, plan: Round, state: ServerState, rule: kernels.Server, lr: float
    ) -> Outcome:
        """One round from `state.row`; the new model is accepted if it is finite.

        With `tolerant`, a diverged client counts as one that did not move; else its divergence
        leaves the global model as it was.
        """
        order = np.argsort(-plan.steps, kind="stable")
        weights = self._weights(plan.clients[order])
        losses, diverged, samples, begin = [], [], 0, 0
        squares = torch.full((1,), torch.nan, dtype=torch.float64)
        while begin < len(order):
            batches, w, loss = self._train(t, plan, order[begin:], state.row, lr)
            diverged += self._contain(w, state.row, batches.clients)
            end = begin + len(batches.clients)
            last = rule if end == len(order) else None
            squares = self._aggregate(w, weights[begin:end], state, begin == 0, last)
            losses.append(loss)
            samples += int(batches.count.sum())
            begin = end
            del w  # a view that would keep the live buffers where the next chunk must halve them
        finite = bool(squares[-1].isfinite()) and self._finite(state.spare[None])
        if finite and (self.tolerant or not diverged):
            state.accept()
        else:
            state.reject()
        train_loss = float(torch.cat(losses).sum()) / max(samples, 1)
        return Outcome(train_loss, float(squares[-1].sqrt()), samples, tuple(diverged), finite)

    def _train(
        self, t: int, plan: Round, left: np.ndarray, row: Tensor, lr: float
    ) -> tuple[Batches, Tensor, Tensor]:
        """The first K clients of those `left`: their batches, models and losses."""

        def work(trainer: LocalTrainer, chunk: int) -> tuple[Batches, Tensor, Tensor]:
            batches = self._batches(t, plan, left[:chunk])
            return batches, *trainer.train(row, batches, lr)

        return self.trainers.use(work)

    def _weights(self, clients: np.ndarray) -> Tensor:
        """`p_k`, in processing order: n_k over the cohort's sum, or uniform. [C]"""
        raw = self.data.sizes[clients] if self.by_samples else np.ones(len(clients))
        weights = torch.from_numpy(raw / raw.sum())
        return weights.to(self.data.x.device, self.layout.dtype)

    def _batches(self, t: int, plan: Round, chosen: np.ndarray) -> Batches:
        index, count = plan.batches(chosen)
        clients = plan.clients[chosen]
        steps = int(count.ne(0).sum(dim=1).max()) if len(chosen) else 0
        sample = self.data.rows(torch.from_numpy(clients), index[:, :steps])
        draws = self.trainer.feed.draw(t, clients, steps, plan.width)
        return Batches(t, clients, sample, count[:, :steps], draws)

    def _contain(self, w: Tensor, row: Tensor, clients: np.ndarray) -> list[int]:
        """The ids of non-finite clients; the global row takes their place in the mean."""
        bad = self._nonfinite(w).nonzero()[:, 0]
        w[bad] = row
        return [int(clients[k]) for k in bad.cpu()]

    def _aggregate(
        self,
        w: Tensor,
        weights: Tensor,
        state: ServerState,
        first: bool,
        rule: kernels.Server | None,
    ) -> Tensor:
        """Trained region by the server's rule, the carried region by the plain mean."""
        t = state.trained
        squares = kernels.aggregate(
            w[:, :t],
            weights,
            state.row[:t],
            acc=state.acc[:t],
            first=first,
            server=rule,
            m=state.m,
            v=state.v,
            out=None if rule is None else state.spare[:t],
            backend=self.backend,
        )
        if self.layout.stride > t:
            kernels.aggregate(
                w[:, t:],
                weights,
                state.row[t:],
                acc=state.acc[t:],
                first=first,
                server=None if rule is None else kernels.Server(),
                out=None if rule is None else state.spare[t:],
                backend=self.backend,
            )
        return squares

    def _nonfinite(self, rows: Tensor) -> Tensor:
        """Which rows hold a non-finite value. [K, S] -> [K] bool"""
        return kernels.stats(rows, backend=self.backend)[:, 0, Column.NONFINITE] > 0

    def _finite(self, rows: Tensor) -> bool:
        return not bool(self._nonfinite(rows).any())
