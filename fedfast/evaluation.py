"""Evaluation: what evaluators promise, and figures of a whole test set from those of its parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Samples
from .metrics.accuracy import Loss, Metric
from .metrics.loss_weights import weight_of
from .pending import Pending

WHOLE = 1 << 28  # numbers of a test set's outputs that may be kept to take the loss of at once

# (what returns a model's row [S], samples)
Jobs = Sequence[tuple[Callable[[], Tensor], Samples]]


class Evaluator(Protocol):
    """Evaluates models of one architecture, given by their rows."""

    def begun(self, row: Tensor, samples: Samples) -> Pending[tuple[float, float]]:
        """(accuracy, mean loss) of one model. row: [S]."""

    def evaluate(self, row: Tensor, samples: Samples) -> tuple[float, float]:
        """The same, read."""

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
    Numbers of a device stay there, as tensors, until they are read all at once: see `Pending`.
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


def _scalar(value: Tensor | float) -> Tensor:
    """Where nothing is differentiated a loss of one's own may give a Python number."""
    if isinstance(value, Tensor):
        return value.reshape(())
    return torch.tensor(float(value), dtype=torch.float64)


def figures(loss: Loss, parts: Sequence[Part], y: Tensor) -> Pending[tuple[float, float]]:
    """(correct predictions, loss) of the whole set of targets y [n, ...], whose parts come in
    order."""
    outputs = [part.outputs for part in parts if part.outputs is not None]
    whole = [_scalar(loss(torch.cat(outputs), y))] if outputs else []
    numbers = [x for part in parts for x in (part.correct, part.loss, part.weight)]

    def made(found: Sequence[np.ndarray]) -> tuple[float, float]:
        read = iter(found)
        given = [float(next(read)) if isinstance(x, Tensor) else x for x in numbers]
        if whole:
            return sum(given[0::3]), float(next(read))
        summed, weight = sum(given[1::3]), sum(given[2::3])
        return sum(given[0::3]), summed / weight if weight else float("nan")

    return Pending([x for x in (*numbers, *whole) if isinstance(x, Tensor)], made)


def totals(loss: Loss, parts: Sequence[Part], y: Tensor) -> Pending[tuple[float, float]]:
    """(accuracy, loss) of the same."""
    n = len(y)
    return figures(loss, parts, y).then(lambda found: (found[0] / n, found[1]))


def total(loss: Loss, parts: Sequence[Part], y: Tensor) -> tuple[float, float]:
    """`totals`, read."""
    return totals(loss, parts, y).read()
