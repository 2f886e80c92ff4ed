"""Clients' personal models, and how models do on the clients' own test parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .client_sampling import Schedule
from .client_scores import ClientScores
from .data import FederatedData, Samples
from .data._concatenate import check_client, concatenate
from .data.client_parts import ClientParts, sizes_of
from .distributed.ranks import Ranks
from .engine import Engine
from .evaluation import Evaluator, Jobs, Part, figures
from .fine_tuning import tune
from .losses import Loss
from .module_evaluator import EVALUATION_BATCH
from .pending import Pending, known, together
from .state import Committed, Tuned
from .validation.data import NO_TESTS

Figures = tuple[np.ndarray, np.ndarray | None]


class Personal:
    """The personal models of a run: the algorithm's own, or fine-tuned ones after the last round.

    Raises ValueError at once where the model has no last layer to tune.
    """

    def __init__(
        self, engine: Engine, evaluator: Callable[[], Evaluator], data: FederatedData, loss: Loss
    ) -> None:
        self.engine, self.evaluator, self.loss = engine, evaluator, loss
        self.sizes, self.algorithm = data.sizes, engine.algorithm
        parts = data.test or []
        self.tested, self.test = sizes_of(parts), None
        if self.tested.any():
            joined = parts.samples if isinstance(parts, ClientParts) else None
            self.test = joined or concatenate(list(parts), None)
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

    def scores(self, state: Committed | None = None, losses: bool = False) -> ClientScores:
        """Evaluate the global model and the personal ones, of `state` if it is not committed yet.

        losses  whether losses are wanted too
        Raises ValueError without test parts.
        """
        return self.begun(state, losses).read()

    def begun(self, state: Committed | None = None, losses: bool = False) -> Pending[ClientScores]:
        """`scores`, to be read."""
        state = self.engine.committed if state is None else state
        if self.test is None:
            raise ValueError(f"clients: they have {NO_TESTS}")
        many, ends = int(self.tested.sum()), np.cumsum(self.tested).tolist()
        # One model for all: its batches need not end where clients do.
        cuts = [*range(EVALUATION_BATCH, many, EVALUATION_BATCH), many]
        look = partial(self._figures, self.test.y) if losses else self._correct
        ranks, test = self.engine.ranks, self.test

        def shared() -> Pending[Figures]:
            return look(_jobs(test, [lambda: state.server.row] * len(cuts), cuts))

        asked = [shared() if ranks is None else known(ranks.of_first(lambda: shared().read()))]
        if self.kept(state):
            own = [partial(self.row, i, state) for i in range(len(ends))]
            jobs = _jobs(test, own, ends)
            mine = look(jobs) if ranks is None else known(self._by_keepers(ranks, state, losses))
            asked.append(mine)

        def made(found: list[Figures]) -> ClientScores:
            (common, loss), *rest = found
            personal, own_loss = rest[0] if rest else (None, None)
            return ClientScores(self.tested, common, personal, loss, own_loss)

        return together(asked).then(made)

    def _by_keepers(self, ranks: Ranks, state: Committed, losses: bool) -> Figures:
        """Figures of the personal models, each from the rank that keeps it, or 0."""
        everybody = np.arange(len(self.tested))
        keepers = everybody % ranks.size
        if state.tuned is None:
            keepers = np.zeros_like(everybody)
            if state.owners is not None:
                keepers = np.maximum(state.owners.astype(np.int64), 0)
        found = ranks.gathered(self._only(keepers == ranks.rank)._own_figures(state, losses))
        right = np.stack([part[0] for part in found])[keepers, everybody]
        lost = [loss for _, loss in found if loss is not None]
        loss = np.stack(lost)[keepers, everybody] if lost else None
        whole = all(part[0].dtype.kind == "i" for part in found)
        return right.astype(np.int64) if whole else right, loss

    def _own_figures(self, state: Committed, losses: bool) -> Figures:
        if self.test is None:
            nothing = np.zeros(len(self.tested), dtype=np.int64)
            return nothing, np.full(len(nothing), np.nan) if losses else None
        own = [partial(self.row, i, state) for i in range(len(self.tested))]
        jobs = _jobs(self.test, own, np.cumsum(self.tested).tolist())
        asked = self._figures(self.test.y, jobs) if losses else self._correct(jobs)
        return asked.read()

    def _only(self, mine: np.ndarray) -> Personal:
        """The same with the test parts of some clients [N]; `test` None without samples."""
        made = copy(self)
        made.tested, made.test = np.where(mine, self.tested, 0), None
        if self.test is not None and made.tested.any():
            samples = np.flatnonzero(np.repeat(mine, self.tested))
            made.test = self.test.take(torch.from_numpy(samples))
        return made

    def _figures(self, y: Tensor, jobs: Jobs) -> Pending[Figures]:
        """Correct predictions on each test part, and its mean loss. Both [N] float64

        y  targets of the joined test parts [n, ...]
        """
        ends = np.cumsum(self.tested).tolist()
        parts: list[list[Part]] = [[] for _ in ends]
        for i, part in self.evaluator().by_part(jobs, ends):
            parts[i].append(part)
        targets = y.split(self.tested.tolist())
        each = together(
            [
                figures(self.loss, own, own_y) if own else known((0.0, np.nan))
                for own, own_y in zip(parts, targets, strict=True)
            ]
        )

        def made(found: list[tuple[float, float]]) -> Figures:
            right, losses = zip(*found, strict=True)
            return np.array(right, dtype=np.float64), np.array(losses, dtype=np.float64)

        return each.then(made)

    def _correct(self, jobs: Jobs) -> Pending[Figures]:
        """Correct predictions on each test part. [N] int64; float64 where they may be in part"""
        right = torch.cat(self.evaluator().correct(jobs))
        kind, last = torch.empty(0, dtype=right.dtype).numpy().dtype, np.cumsum(self.tested)

        def made(numbers: Sequence[np.ndarray]) -> Figures:
            if np.isnan(numbers[0]).any():  # no accuracy: nan would spread in sums
                return np.full(len(self.tested), np.nan), None
            up_to = np.concatenate([[0], np.cumsum(numbers[0].astype(kind))])
            return up_to[last] - up_to[last - self.tested], None

        return Pending([right], made)


def _jobs(test: Samples, models: Sequence[Callable[[], Tensor]], ends: Sequence[int]) -> Jobs:
    """The rows to ask, the next one up to each of `ends` of the joined test parts."""
    spans = zip([0, *ends[:-1]], ends, strict=True)
    return [(m, test.take(slice(a, b))) for m, (a, b) in zip(models, spans, strict=True) if a < b]
