"""Clients' personal models, and how models do on the clients' own test parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .client_sampling import Schedule
from .data import FederatedData, Samples
from .data._concatenate import check_client, concatenate
from .engine import Engine
from .evaluation import Evaluator
from .fine_tuning import tune
from .module_evaluator import EVALUATION_BATCH
from .state import Committed, Tuned


@dataclass(frozen=True)
class ClientScores:
    """Correct predictions on every client's own test part.

    tested    [N] int64, samples of each test part
    common    [N] int64, of them the global model gets right (float64 where predictions may be
              right in part, as with several labels each; nan where there is no accuracy)
    personal  [N] int64, the client's personal model; None where there are no personal models
    """

    tested: np.ndarray
    common: np.ndarray
    personal: np.ndarray | None

    @property
    def personal_accuracy(self) -> float:
        """Mean over the clients that have test samples, each with its personal model."""
        return _mean(self.personal, self.tested)

    @property
    def personal_pooled(self) -> float:
        """The share of all test samples that the personal models get right."""
        return _pooled(self.personal, self.tested)

    @property
    def local_accuracy(self) -> float:
        """Mean over the clients that have test samples, all with the global model."""
        return _mean(self.common, self.tested)

    @property
    def pooled_accuracy(self) -> float:
        """The share of all test samples that the global model gets right."""
        return _pooled(self.common, self.tested)

    def columns(self) -> dict[str, float]:
        """The four accuracies under the names of a `Row`."""
        names = ("personal_accuracy", "personal_pooled", "local_accuracy", "pooled_accuracy")
        return {name: getattr(self, name) for name in names}


def _mean(correct: np.ndarray | None, tested: np.ndarray) -> float:
    some = tested > 0
    return float("nan") if correct is None else float((correct[some] / tested[some]).mean())


def _pooled(correct: np.ndarray | None, tested: np.ndarray) -> float:
    return float("nan") if correct is None else float(correct.sum() / tested.sum())


class Personal:
    """The personal models of a run: the algorithm's own, or fine-tuned ones after the last round.

    Raises ValueError at once where the model has no last layer to tune.
    """

    def __init__(
        self, engine: Engine, evaluator: Callable[[], Evaluator], data: FederatedData
    ) -> None:
        self.engine, self.evaluator = engine, evaluator
        self.sizes, self.algorithm = data.sizes, engine.algorithm
        self.tested = np.array([len(part) for part in data.test or []], dtype=np.int64)
        self.test = None if self.tested.sum() == 0 else concatenate(data.test or [], None)
        self.span = (0, 0)
        if self.algorithm.fine_tune is not None:
            a, b = self.algorithm.fine_tune.span(engine.visible)
            whole = self.algorithm.fine_tune.layers == "all"
            self.span = (a, len(engine.state.row) if whole else b)

    def kept(self, state: Committed | None = None) -> bool:
        """Whether there are personal models, in `state` where it is not what is committed."""
        state = self.engine.committed if state is None else state
        return state.tuned is not None or self.algorithm.personal is not None

    def fine_tune(self, row: Tensor, t: int, lr: float) -> Tuned:
        """The models of all clients that have samples, tuned from the global model `row` [S].

        t  keys batches and random numbers
        """
        assert self.algorithm.fine_tune is not None
        given = self.engine.options
        cuts = given.drop_last and given.batch_size is not None and given.schedule is None
        schedule = Schedule.draw(
            self.sizes,
            rounds=t + 1,
            participation=1.0,
            local_epochs=self.algorithm.fine_tune.epochs,
            batch_size=self.engine.batches.width,
            seed=given.seed,
            drop_last=cuts,
        )
        plan = schedule.round(t)
        slot = np.full(len(self.sizes), -1)
        slot[plan.clients] = np.arange(len(plan.clients))
        return Tuned(tune(self.engine, row, t, plan, lr, self.span), slot)

    def row(self, i: int, state: Committed | None = None) -> Tensor:
        """The personal model of client `i`, in `state` where it is not what is committed. [S]"""
        state = self.engine.committed if state is None else state
        check_client(i, len(self.sizes))
        if state.tuned is not None:
            row, slot = state.server.row.clone(), int(state.tuned.slot[i])
            if slot >= 0:
                row[self.span[0] : self.span[1]] = state.tuned.rows[slot]
            return row
        name = self.algorithm.personal
        if name is None:
            raise ValueError(f"i: there is no personal model of client {i}: {self._why()}")
        own = state.clients.row(name, i)
        assert own is not None  # a "model" row always has a value
        return own

    def _why(self) -> str:
        if self.algorithm.fine_tune is not None:
            return "fine-tuning follows the last round"
        return (
            f"{self.algorithm.name or 'this algorithm'} keeps none; FedFSA, FedALA and FedCR do, "
            "keep_models=True does under any algorithm, and fine_tune=FineTune() makes them of its "
            "last model"
        )

    def scores(self, state: Committed | None = None) -> ClientScores:
        """Evaluate the global model and the personal ones, of `state` if it is not committed yet.

        Raises ValueError without test parts.
        """
        state = self.engine.committed if state is None else state
        if self.test is None:
            raise ValueError(
                "clients: they have no test parts of their own; give them some, "
                "FederatedData.from_arrays(..., test=[...]) or data.with_test([...])"
            )
        total, ends = int(self.tested.sum()), np.cumsum(self.tested).tolist()
        # One model for all: its batches need not end where clients do.
        cuts = [*range(EVALUATION_BATCH, total, EVALUATION_BATCH), total]
        common = self._correct(self.test, [lambda: state.server.row] * len(cuts), cuts)
        own = [partial(self.row, i, state) for i in range(len(ends))]
        personal = self._correct(self.test, own, ends) if self.kept(state) else None
        return ClientScores(self.tested, common, personal)

    def _correct(
        self, test: Samples, models: Sequence[Callable[[], Tensor]], ends: Sequence[int]
    ) -> np.ndarray:
        """Correct predictions on each test part. [N] int64; float64 where they may be in part

        models  the rows to ask, the next one up to each of `ends` of the joined test parts
        """
        spans = zip([0, *ends[:-1]], ends, strict=True)
        jobs = [
            (m, test.take(slice(a, b))) for m, (a, b) in zip(models, spans, strict=True) if a < b
        ]
        right = torch.cat(self.evaluator().correct(jobs))
        if right.isnan().any():
            return np.full(len(self.tested), np.nan)  # no accuracy: nan would spread in sums
        total = np.concatenate([[0], np.cumsum(right.cpu().numpy())])
        last = np.cumsum(self.tested)
        return total[last] - total[last - self.tested]
