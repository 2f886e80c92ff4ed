"""Evaluation: what evaluators promise, and figures of a whole test set from those of its parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Samples
from .metrics.accuracy import Loss, Metric
from .metrics.loss_weights import weight_of
from .transfers import numbers_of

WHOLE = 1 << 28  # numbers of a test set's outputs that may be kept to take the loss of at once

# (what returns a model's row [S], samples)
Jobs = Sequence[tuple[Callable[[], Tensor], Samples]]


class Evaluator(Protocol):
    """Evaluates models of one architecture, given by their rows."""

    def evaluate(self, row: Tensor, samples: Samples) -> tuple[float, float]:
        """(accuracy, mean loss) of one model. row: [S]."""

    def correct(self, jobs: Jobs) -> list[Tensor]:
        """How right each prediction [n] of every job is, as the metric has it."""

    def by_part(self, jobs: Jobs, ends: Sequence[int]) -> list[tuple[int, Part]]:
        """(i, figures of samples of part i) in order, of parts that end at `ends`.

        The samples of all jobs, joined, are those of all parts; a part's may come in pieces.
        """


@dataclass(frozen=True)
class Part:
    """The figures of a part of a test set.

    loss     its mean loss times `weight`, what that mean was divided by
    correct  how many predictions are right
    outputs  [n, ...] where the loss is taken of the whole set
    Numbers of a device stay there, as tensors, until `settled` reads all at once.
    """

    loss: float | Tensor
    weight: float | Tensor
    correct: float | Tensor
    outputs: Tensor | None


def assess(loss: Loss, metric: Metric, outputs: Tensor, y: Tensor, samples: int) -> Part:
    """The figures of a part of a test set of so many samples."""
    there = outputs.device.type != "cpu"
    right = metric(outputs, y).sum()
    correct = right if there else right.item()
    # Means of parts make the mean of the whole only where all samples weigh alike, which is known
    # of the plain cross-entropy; other losses are taken of all outputs, as far as they fit.
    if loss is not F.cross_entropy and samples * outputs[0].numel() <= WHOLE:
        return Part(0.0, 0.0, correct, outputs.clone())
    weight = weight_of(loss, y)
    if isinstance(weight, Tensor):  # a mean over nothing is no number
        summed = (loss(outputs, y).double() * weight).where(weight > 0, 0.0)
        return Part(summed, weight, correct, None)
    if not weight:
        return Part(0.0, weight, correct, None)
    mean = loss(outputs, y)
    return Part((mean.double() if there else float(mean)) * weight, weight, correct, None)


def settled(parts: Sequence[Part]) -> list[Part]:
    """The same with numbers in the place of tensors; the host waits once."""
    figures = [(part.loss, part.weight, part.correct) for part in parts]
    pending = [t for figure in figures for t in figure if isinstance(t, Tensor)]
    if not pending:
        return list(parts)
    read = iter(numbers_of(*pending))
    known = [[next(read) if isinstance(t, Tensor) else t for t in figure] for figure in figures]
    return [
        replace(part, loss=loss, weight=weight, correct=correct)
        for part, (loss, weight, correct) in zip(parts, known, strict=True)
    ]


def pieces(
    loss: Loss, metric: Metric, outputs: Tensor, y: Tensor, start: int, ends: Sequence[int]
) -> Iterator[tuple[int, Part]]:
    """(i, figures) of what outputs [n, ...] from sample `start` on hold of each part i."""
    at, stop = start, start + len(y)
    while at < stop:
        i = bisect_right(ends, at)  # parts without samples end where they begin: never found
        to, whole = min(ends[i], stop), ends[i] - (ends[i - 1] if i else 0)
        own = slice(at - start, to - start)
        yield i, assess(loss, metric, outputs[own], y[own], whole)
        at = to


def starts_of(jobs: Jobs) -> list[int]:
    """Where each job's samples begin in those of all."""
    return list(accumulate((len(samples) for _, samples in jobs), initial=0))[:-1]


def total(loss: Loss, parts: Sequence[Part], y: Tensor) -> tuple[float, float]:
    """(accuracy, loss) of the whole set of targets y [n, ...], whose parts come in order."""
    parts = settled(parts)
    accuracy = sum(float(part.correct) for part in parts) / len(y)
    outputs = [part.outputs for part in parts if part.outputs is not None]
    if outputs:
        return accuracy, float(loss(torch.cat(outputs), y))
    weight = sum(float(part.weight) for part in parts)
    summed = sum(float(part.loss) for part in parts)
    return accuracy, summed / weight if weight else float("nan")


def settled_pieces(found: Sequence[tuple[int, Part]]) -> list[tuple[int, Part]]:
    """`settled` of pieces (i, figures)."""
    return [(i, part) for (i, _), part in zip(found, settled([p for _, p in found]), strict=True)]
