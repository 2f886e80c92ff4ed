"""The check of a train function: one client by the app and by a cohort, on the same batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.clientapp import ClientApp

from .app_calls import call
from .cohorts import Cohorts, Trained
from .declaration import Training
from .jobs import TrainJob
from .loaders import seeded
from .metrics import Figures, metric_record
from .nodes import as_new
from .replies import form_of
from .states import States
from .unsupported import Unsupported
from .watch import Seen, rows_of, watching

CLOSE = 1e-5  # of the largest number of an array
UPDATE = 1e-2  # of the largest change of an array: a wrong learning rate shows at any scale
ROUNDING = 1e-6  # of the largest number: changes below it are rounding


class NoAnswer(Exception):
    """The app's function has raised, so that there is nothing to compare with."""


@dataclass(frozen=True)
class Checked:
    """The app's reply for one client, its metrics, and the figures that they must be among.

    Metrics and figures may be those of float64.
    """

    reply: Message
    key: str
    metrics: MetricRecord
    figures: Figures


@dataclass
class Checker:
    """Compares trainings of one app."""

    app: ClientApp
    training: Training
    states: States
    cohorts: Cohorts

    def check(self, job: TrainJob) -> Checked:
        """Both trainings of a job. Raises Unsupported where they differ, NoAnswer."""
        reply, seen = self._own(job, double=False)
        batches = self._batches(job, seen)
        ours = self.cohorts.train([job], [batches], self.states.of(job.arrays))
        worst = self._difference(job, reply, ours)
        if worst > CLOSE:
            metrics, figures = self._check_double(job, worst)
        else:
            metrics, figures = reply, _figures(job, batches, ours)
        return Checked(reply, *metric_record(metrics.content), figures)

    def _own(self, job: TrainJob, double: bool) -> tuple[Message, Seen]:
        context = as_new(job.context)
        with seeded(job.seed), watching(self.training.unpack, double) as seen:
            reply = call(self.app, job.message, context)
        if reply.has_error():
            raise NoAnswer(reply.error.reason)
        if context.state:
            raise Unsupported("the train function keeps something in context.state")
        return reply, seen

    def _batches(self, job: TrainJob, seen: Seen) -> list[list[int]]:
        """The rows that the app trained on; the declared loader must draw such batches."""
        samples, epochs = job.partition.train, job.settings.epochs
        declared = job.batches()
        if seen.sizes != [len(batch) for batch in declared]:
            raise Unsupported(
                f"the train function drew {_sizes(seen.sizes)} from DataLoaders, the declared data "
                f"function gives {_sizes([len(b) for b in declared])} in {epochs} epochs"
            )
        found = rows_of(seen.batches, samples.x, samples.y)
        if found is None:
            raise Unsupported(
                "the train function sees samples that the data function does not give"
            )
        if samples.fixed(epochs) and not _same_samples(job, found, declared):
            raise Unsupported("the train function draws batches in another order than the loader")
        return found

    def _difference(self, job: TrainJob, reply: Message, ours: Trained) -> float:
        form = form_of(reply, self.states.names)
        record = reply.content[form.key]
        assert isinstance(record, ArrayRecord)
        start = self.states.of(job.arrays)
        return max(
            _error(record[key].numpy(), ours.rows.views[name][0], start[name].numpy())
            for key, name in form.names.items()
        )

    def _check_double(self, job: TrainJob, found: float) -> tuple[Message, Figures]:
        """The same in float64: rounding that many steps have let grow is no difference.

        found  the difference in float32
        Returns the app's reply and the cohort's figures.
        """
        exact = Cohorts(self.training.network, self.training.loss, torch.float64)
        try:
            reply, seen = self._own(job, double=True)
            batches = self._batches(job, seen)
            start = {n: t.double() for n, t in self.states.of(job.arrays).items()}
            ours = exact.train([job], [batches], start)
            worst = self._difference(job, reply, ours)
        except (NoAnswer, RuntimeError, Unsupported) as error:
            raise Unsupported(f"{self._differs(job, found)}; in float64: {error}") from error
        if worst > CLOSE / 10:
            raise Unsupported(self._differs(job, found))
        return reply, _figures(job, batches, ours)

    def _differs(self, job: TrainJob, worst: float) -> str:
        asked = f"lr={job.rule.lr:g}, epochs={job.settings.epochs}, mu={job.settings.mu:g}"
        return (
            f"the train function's arrays differ from the declared training's by {worst:.1e} of "
            f"the largest number ({job.rule.algorithm}, weight_decay={job.rule.weight_decay:g}, "
            f"{asked})"
        )


def _sizes(sizes: list[int]) -> str:
    return f"{len(sizes)} batches of {sum(sizes)} samples"


def _same_samples(job: TrainJob, found: list[list[int]], declared: list[list[int]]) -> bool:
    x = job.partition.train.x
    flat = [torch.tensor([i for batch in b for i in batch]) for b in (found, declared)]
    return torch.equal(x[flat[0]], x[flat[1]])


def _error(theirs: np.ndarray, ours: np.ndarray, start: np.ndarray) -> float:
    """The largest difference over the largest number, >= 1 where the change is another."""
    scale = float(np.abs(theirs).max(initial=0.0)) or 1.0
    if not np.isfinite(theirs).all():
        return 0.0 if np.array_equal(np.isfinite(theirs), np.isfinite(ours)) else 1.0
    error = float(np.abs(theirs - ours).max(initial=0.0))
    change = float(np.abs(theirs - start).max(initial=0.0))
    if error > max(UPDATE * change, ROUNDING * scale):
        return 1.0
    return error / scale


def _figures(job: TrainJob, batches: list[list[int]], ours: Trained) -> Figures:
    sizes = [len(batch) for batch in batches]
    return job.figures(sizes, float(ours.over_samples[0]), float(ours.over_batches[0]))
