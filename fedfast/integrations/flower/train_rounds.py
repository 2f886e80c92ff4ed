"""Train messages of a round, answered by cohorts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from functools import partial

from flwr.app import Context, Message, MetricRecord
from flwr.clientapp import ClientApp

from .app_calls import error_reply
from .check import Checker, NoAnswer
from .cohorts import Cohorts
from .declaration import Training
from .jobs import TrainJob, train_job
from .local_rules import LocalRules
from .metrics import Figures, Metrics
from .partitions import Partitions
from .replies import ReplyForm, form_of
from .spot_checks import SpotChecks
from .states import States
from .unsupported import Unsupported


class TrainRounds:
    """Answers train messages as the app would; some are checked against the app."""

    def __init__(
        self, app: ClientApp, training: Training, states: States, partitions: Partitions
    ) -> None:
        self.training, self.states, self.partitions = training, states, partitions
        self.rules = LocalRules(training.optimizer)
        self.cohorts = Cohorts(training.network, training.loss)
        self.checker = Checker(app, training, states, self.cohorts)
        self.calls: Counter[int] = Counter()  # train messages of each node so far
        self.found: tuple[ReplyForm, Metrics] | None = None
        self.spots = SpotChecks()

    def answer(self, messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message]:
        """A reply to each message. Raises Unsupported, NoAnswer (nothing is counted then)."""
        before = self.calls.copy()
        try:
            return self._answers(messages, contexts)
        except NoAnswer:
            self.calls = before
            raise

    def _answers(self, messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message]:
        replies: dict[int, Message] = {}
        found: list[tuple[int, TrainJob]] = []
        groups: dict[Hashable, list[tuple[int, TrainJob]]] = defaultdict(list)
        for i, (message, context) in enumerate(zip(messages, contexts, strict=True)):
            job = self._job(message, context)
            if isinstance(job, TrainJob):
                rule = job.rule
                found.append((i, job))
                groups[id(job.arrays), rule.algorithm, rule.weight_decay].append((i, job))
            else:
                replies[i] = job
        jobs = [job for _, job in found]
        self._alone(jobs)
        checked = self._check(jobs)
        for group in groups.values():
            places, own = zip(*group, strict=True)
            replies |= dict(zip(places, self._trained(own), strict=True))
        self.spots.done([_kind(job) for job in jobs], checked)
        self.partitions.shrink()
        return [replies[i] for i in range(len(messages))]

    def _job(self, message: Message, context: Context) -> TrainJob | Message:
        """A job, or the error reply of a node whose data function has raised."""
        node = context.node_id
        self.calls[node] += 1
        partition = int(context.node_config["partition-id"])
        seed = (self.training.seed << 40) + (self.calls[node] << 20) + partition
        try:
            job = train_job(self.training, self.rules, self.partitions, message, context, seed)
            len(job.partition.train)  # read now
        except Unsupported:
            raise
        except Exception as error:  # whatever the data function raises: its node alone fails
            return error_reply(error, message)
        return job

    def _trained(self, jobs: Sequence[TrainJob]) -> list[Message]:
        """Replies of jobs of one rule and one model."""
        assert self.found is not None  # `_check` comes first
        form, metrics = self.found
        batches = [job.batches() for job in jobs]
        trained = self.cohorts.train(jobs, batches, self.states.of(jobs[0].arrays))
        replies = []
        for j, job in enumerate(jobs):
            sizes = [len(batch) for batch in batches[j]]
            losses = float(trained.over_samples[j]), float(trained.over_batches[j])
            figures = job.figures(sizes, *losses)
            named = metrics.key, metrics.decided(figures, partial(self._figures, job))
            replies.append(form.reply(job.message, trained.rows, j, named))
        return replies

    def _alone(self, jobs: Sequence[TrainJob]) -> None:
        """Nodes without a batch: what their functions reply is anybody's guess."""
        jobs = [job for job in jobs if job.partition.train.empty or job.settings.epochs < 1]
        if jobs:
            raise NoAnswer([job.context.node_id for job in jobs], "there is no batch to train on")

    def _check(self, jobs: Sequence[TrainJob]) -> list[int]:
        """Some jobs by the app too: their nodes.

        The first one gives the form of replies and their metrics.
        """
        nodes = [job.context.node_id for job in jobs]
        chosen = self.spots.chosen([_kind(job) for job in jobs], nodes)
        with self.spots.saying_when():
            for place, first in chosen:
                self._compare(jobs[place], first)
        return [nodes[place] for place, _ in chosen]

    def _compare(self, job: TrainJob, first: bool) -> None:
        checked = self.checker.check(job) if first else self.checker.again(job)
        form = form_of(checked.reply, self.states.names)
        if self.found is None:
            self.found = form, Metrics(checked.key, checked.metrics, checked.figures)
            return
        if (form.key, form.names) != (self.found[0].key, self.found[0].names):
            raise Unsupported("replies whose records or arrays are not always the same")
        self.found[1].narrow(checked.metrics, checked.figures)

    def _figures(self, job: TrainJob) -> tuple[MetricRecord, Figures]:
        """The app's metrics of a job, and the figures that they must be among."""
        checked = self.checker.check(job)
        return checked.metrics, checked.figures


def _kind(job: TrainJob) -> Hashable:
    """Jobs that differ in it take other ways through a train function."""
    return bool(job.settings.mu), job.settings.epochs > 1
