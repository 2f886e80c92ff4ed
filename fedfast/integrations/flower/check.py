"""The check of a train function: one client by the app and by a cohort, on the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.clientapp import ClientApp
from torch.nn.modules.dropout import _DropoutNd

from .app_calls import call
from .cohorts import Cohorts, Trained
from .declaration import Training
from .differences import Difference, difference
from .jobs import TrainJob
from .loaders import seeded
from .metrics import Figures, metric_record
from .nodes import as_new
from .replies import form_of
from .samples import double
from .states import States
from .unsupported import Unsupported
from .watch import Seen, rows_of, watching


class NoAnswer(Exception):
    """Nodes that only the app's own function can answer for: it raises, or there are no batches.

    raised  it raises; the text says what. Else there may be batches with the next message
    """

    def __init__(self, nodes: Sequence[int], reason: str, raised: bool = False) -> None:
        super().__init__(reason)
        self.nodes, self.raised = nodes, raised


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
        """Both trainings of a job, in float32 and in float64. Raises Unsupported, NoAnswer.

        float32 alone hides a small weight decay, float64 alone what the replies are. Where the
        function trains in float32 only, that has to do.
        """
        reply, seen = self._own(job, double=False)
        batches = self._batches(job, seen)
        ours = self.cohorts.train([job], [batches], self.states.of(job.arrays))
        worst = self._difference(job, reply, ours)
        exact = self._exact(job)
        if exact is None and worst.over > 1:
            raise Unsupported(self._differs(job, worst))
        if exact is None or worst.over <= 1:
            exact = reply, _figures(job, batches, ours)
        return Checked(reply, *metric_record(exact[0].content), exact[1])

    def again(self, job: TrainJob) -> Checked:
        """The same of another job: in float64 where that is possible, else in float32."""
        exact = self._exact(job)
        if exact is None:
            return self.check(job)
        return Checked(exact[0], *metric_record(exact[0].content), exact[1])

    def _own(self, job: TrainJob, double: bool) -> tuple[Message, Seen]:
        context = as_new(job.context)
        with seeded(job.seed), watching(self.training.unpack, double) as seen:
            reply = call(self.app, job.message, context)
        if reply.has_error():
            raise NoAnswer([job.context.node_id], f"it raises {reply.error.reason}", True)
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
        if not _as_often(job, found, declared):
            raise Unsupported("the train function draws samples more or less often than the loader")
        return found

    def _difference(
        self, job: TrainJob, reply: Message, ours: Trained, double: bool = False
    ) -> Difference:
        form = form_of(reply, self.states.names)
        record = reply.content[form.key]
        assert isinstance(record, ArrayRecord)
        start = self.states.of(job.arrays)
        own = ours.rows.views
        return max(
            difference(record[key].numpy(), own[name][0], start[name].numpy(), double)
            for key, name in form.names.items()
        )

    def _exact(self, job: TrainJob) -> tuple[Message, Figures] | None:
        """The same in float64, where neither rounding nor its growth over many steps hides much.

        Returns the app's reply and the cohort's figures; None where one of them has no float64.
        """
        exact = Cohorts(self.training.network, self.training.loss, torch.float64)
        start = {n: double(t) for n, t in self.states.of(job.arrays).items()}
        try:
            reply, seen = self._own(job, double=True)
            batches = self._batches(job, seen)
            ours = exact.train([job], [batches], start)
        except (NoAnswer, RuntimeError, Unsupported):
            return None
        worst = self._difference(job, reply, ours, double=True)
        if worst.over > 1:
            raise Unsupported(self._differs(job, worst))
        return reply, _figures(job, batches, ours)

    def _differs(self, job: TrainJob, worst: Difference) -> str:
        asked = f"lr={job.rule.lr:g}, epochs={job.settings.epochs}, mu={job.settings.mu:g}"
        rule = job.rule.algorithm
        random = any(isinstance(m, _DropoutNd) for m in self.training.network().modules())
        return (
            f"the train function's arrays differ from the declared training's by "
            f"{worst.relative:.1e} of their largest change ({getattr(rule, 'local', rule)}, "
            f"weight_decay={job.rule.weight_decay:g}, {asked})"
            + ("; the model has dropout, whose masks are drawn otherwise" if random else "")
        )


def _sizes(sizes: list[int]) -> str:
    return f"{len(sizes)} batches of {sum(sizes)} samples"


def _same_samples(job: TrainJob, found: list[list[int]], declared: list[list[int]]) -> bool:
    x = job.partition.train.x
    flat = [torch.tensor([i for batch in b for i in batch]) for b in (found, declared)]
    return torch.equal(x[flat[0]], x[flat[1]])


def _as_often(job: TrainJob, found: list[list[int]], declared: list[list[int]]) -> bool:
    """Whether samples are drawn as often as the loader draws them, where that is no chance."""
    samples = job.partition.train
    again = samples.batches(job.settings.epochs, job.seed + 1)
    mine, other, theirs = (samples.counts(batches) for batches in (declared, again, found))
    return mine != other or mine == theirs


def _figures(job: TrainJob, batches: list[list[int]], ours: Trained) -> Figures:
    sizes = [len(batch) for batch in batches]
    return job.figures(sizes, float(ours.over_samples[0]), float(ours.over_batches[0]))
