"""Evaluate messages of a round: one model on the validation samples of many nodes at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import torch
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from .app_calls import call, error_reply, identified
from .arrays import array_record
from .check import NoAnswer
from .declaration import Training
from .jobs import Job
from .loaders import seeded
from .metrics import Figures, Metrics, metric_record
from .nodes import as_new
from .partitions import Partitions
from .spot_checks import SpotChecks
from .states import States
from .unsupported import Unsupported
from .validation_figures import scores_of

SPOT = 1e-3  # of a metric: losses near zero are rounded more than `metrics.CLOSE`
TOGETHER = 2048  # samples of one forward pass


class EvaluateRounds:
    """Answers evaluate messages as the app would; some are checked against the app."""

    def __init__(
        self, app: ClientApp, training: Training, states: States, partitions: Partitions
    ) -> None:
        self.app, self.training, self.states, self.partitions = app, training, states, partitions
        self.module = training.network().eval()
        self.metrics: Metrics | None = None
        self.spots = SpotChecks()

    def answer(self, messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message]:
        """A reply to each message. Raises Unsupported, NoAnswer."""
        replies: dict[int, Message] = {}
        groups: dict[int, list[tuple[int, Job]]] = defaultdict(list)
        chosen, empty = self._chosen(contexts), list[int]()
        for i, (message, context) in enumerate(zip(messages, contexts, strict=True)):
            job = self._job(message, context)
            if isinstance(job, Job):
                empty += [context.node_id] if job.partition.validation.empty else []
                groups[id(job.arrays)].append((i, job))
            else:
                replies[i] = job
        if empty:
            raise NoAnswer(empty, "there is no sample to evaluate on")
        for group in groups.values():
            places, jobs = zip(*group, strict=True)
            replies |= dict(zip(places, self._evaluated(jobs, chosen), strict=True))
        self.spots.done([0], chosen)
        self.partitions.shrink()
        return [replies[i] for i in range(len(messages))]

    def _chosen(self, contexts: Sequence[Context]) -> list[int]:
        """Nodes whose messages the app answers too."""
        nodes = [context.node_id for context in contexts]
        return [nodes[place] for place, _ in self.spots.chosen([0] * len(nodes), nodes)]

    def _job(self, message: Message, context: Context) -> Job | Message:
        """A job, or the error reply of a node whose data function has raised."""
        _, arrays = array_record(message)
        try:
            partition = self.partitions.of(message, context)
            len(partition.validation)  # read now
        except Unsupported:
            raise
        except Exception as error:  # whatever the data function raises: its node alone fails
            return error_reply(error, message)
        return Job(message, context, arrays, partition)

    def _evaluated(self, jobs: Sequence[Job], chosen: Sequence[int]) -> list[Message]:
        """Replies of jobs of one model."""
        try:
            outputs = self._outputs(jobs)
            found = [self._figures(job, own) for job, own in zip(jobs, outputs, strict=True)]
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise Unsupported(f"the model or the loss on the samples of a node: {error}") from error
        new = self.metrics is None
        if self.metrics is None:
            self.metrics = Metrics(*self._own(jobs[0]), found[0])
        with self.spots.saying_when():
            for i, (job, figures) in enumerate(zip(jobs, found, strict=True)):
                if job.context.node_id in chosen and (i or not new):
                    self.metrics.narrow(self._own(job)[1], figures, SPOT)
        replies = []
        for job, figures in zip(jobs, found, strict=True):
            record = self.metrics.decided(figures, partial(self._decisive, job, figures))
            content = RecordDict({self.metrics.key: record})
            replies.append(identified(Message(content, reply_to=job.message)))
        return replies

    def _decisive(self, job: Job, figures: Figures) -> tuple[MetricRecord, Figures]:
        """The app's metrics of a job, and the figures that they must be among."""
        return self._own(job)[1], figures

    def _own(self, job: Job) -> tuple[str, MetricRecord]:
        """(key, metrics) of the app's own reply."""
        context = as_new(job.context)
        with seeded(self.training.seed):
            reply = call(self.app, job.message, context)
        if reply.has_error():
            raise NoAnswer([job.context.node_id], f"it raises {reply.error.reason}", True)
        if context.state or len(reply.content) != 1:
            raise Unsupported("evaluate replies with more than a MetricRecord, or context.state")
        return metric_record(reply.content)

    @torch.inference_mode()
    def _outputs(self, jobs: Sequence[Job]) -> list[Tensor]:
        """The model's outputs for each node's validation samples, in evaluation mode."""
        self.module.load_state_dict(self.states.of(jobs[0].arrays))
        found: list[Tensor] = []
        for part in _together([job.partition.validation.x for job in jobs]):
            outputs = self.module(torch.cat(part)) if len(part) > 1 else self.module(part[0])
            found += outputs.split([len(x) for x in part])
        return found

    def _figures(self, job: Job, outputs: Tensor) -> Figures:
        samples = job.partition.validation
        sizes = [len(batch) for batch in samples.batches(1, self.training.seed)]
        order = torch.tensor([i for batch in samples.batches(1, self.training.seed) for i in batch])
        scores = scores_of(self.training.loss, outputs[order], samples.y[order], sizes)
        own = {
            f"metric {k}": float(f(outputs, samples.y)) for k, f in self.training.metrics.items()
        }
        return own | scores.figures() | job.numbers()


def _together(xs: Sequence[Tensor]) -> list[list[Tensor]]:
    """Groups of up to `TOGETHER` samples, at least one tensor each."""
    groups: list[list[Tensor]] = []
    room = 0
    for x in xs:
        if not groups or len(x) > room:
            groups.append([])
            room = TOGETHER
        groups[-1].append(x)
        room -= len(x)
    return groups
