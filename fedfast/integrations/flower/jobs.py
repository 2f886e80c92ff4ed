"""What one message asks of one node, and the numbers that describe it."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Context, Message

from .arrays import array_record
from .declaration import Training
from .local_rules import LocalRule, LocalRules
from .partitions import Partition, Partitions
from .settings import Settings, settings_of


@dataclass(frozen=True)
class Job:
    """A message with the samples of its node."""

    message: Message
    context: Context
    arrays: ArrayRecord
    partition: Partition

    def numbers(self) -> dict[str, float]:
        """Numbers that any reply may repeat: of the node, and of the message's config."""
        config = self.context.node_config
        found = {name: float(value) for name, value in config.items() if _plain(value)}
        for record in self.message.content.values():
            if isinstance(record, ConfigRecord):
                found |= {f"config {k}": float(v) for k, v in record.items() if _plain(v)}  # type: ignore[arg-type]
        return found


def _plain(value: object) -> bool:
    return isinstance(value, (int, float))


@dataclass(frozen=True)
class TrainJob(Job):
    """A train message with the batches of its node; `seed` is torch's on that node."""

    settings: Settings
    rule: LocalRule
    seed: int

    def batches(self) -> list[list[int]]:
        """The index batches that the node's loader draws."""
        return self.partition.train.batches(self.settings.epochs, self.seed)

    def figures(
        self, sizes: list[int], over_samples: float, over_batches: float
    ) -> dict[str, float]:
        """Numbers that a train reply may hold, of batches of these sizes.

        over_samples, over_batches  the means of the training loss
        """
        epochs, steps, seen = self.settings.epochs, len(sizes), sum(sizes)
        return {
            "mean loss over batches": over_batches,
            "mean loss over samples": over_samples,
            "sum of batch losses / batches per epoch": over_batches * epochs,
            "sum of batch losses": over_batches * steps,
            "sum of losses / samples": over_samples * epochs,
            "sum of losses": over_samples * seen,
            "samples": len(self.partition.train),
            "samples seen": seen,
            "batches": steps,
            "batches per epoch": steps / max(epochs, 1),
            "epochs": epochs,
            "lr": self.rule.lr,
            **self.numbers(),
        }


def train_job(
    training: Training,
    rules: LocalRules,
    partitions: Partitions,
    message: Message,
    context: Context,
    seed: int,
) -> TrainJob:
    """The job of a train message."""
    settings = settings_of(training, message, context)
    rule = rules.of(settings.lr, settings.mu)
    _, arrays = array_record(message)
    partition = partitions.of(message, context)
    return TrainJob(message, context, arrays, partition, settings, rule, seed)
