"""Accuracy of several models on each class of a set of samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from ..data import Samples
from ..evaluation import Evaluator

NAME = "classes.csv"


@dataclass(frozen=True, eq=False)
class ClassAccuracy:
    """Counts of right predictions.

    models   names
    correct  `[models, classes]` float64
    samples  `[classes]` int64
    """

    models: tuple[str, ...]
    correct: np.ndarray
    samples: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        """`[models, classes]`, nan for classes without samples."""
        with np.errstate(invalid="ignore"):
            return self.correct / self.samples

    def rows(self, label: str) -> Iterator[dict[str, object]]:
        """Rows of `classes.csv`."""
        for model, counts in zip(self.models, self.correct, strict=True):
            for c, (right, n) in enumerate(
                zip(counts.tolist(), self.samples.tolist(), strict=True)
            ):
                accuracy = right / n if n else ""
                head: dict[str, object] = {"label": label, "model": model, "class": c}
                yield head | {"samples": n, "correct": right, "accuracy": accuracy}


def class_accuracy(
    evaluator: Evaluator, models: Mapping[str, Tensor], samples: Samples, classes: int
) -> ClassAccuracy:
    """Count each model's right predictions on the samples of each class.

    models   name -> row `[S]`; counts of one that is not finite are nan
    Raises ValueError where targets are no class labels.
    """
    if samples.y.ndim != 1 or samples.y.is_floating_point():
        raise ValueError(f"samples: expected class labels [n]; got {list(samples.y.shape)}")
    y = samples.y.cpu().numpy()
    jobs = [(partial(_same, row), samples) for row in models.values()]
    found = [right.double().cpu().numpy() for right in evaluator.correct(jobs)]
    counts = [np.bincount(y, right, minlength=classes) for right in found]
    for own, row in zip(counts, models.values(), strict=True):
        if not row.isfinite().all():  # its predictions are an accident
            own[:] = np.nan
    return ClassAccuracy(tuple(models), np.stack(counts), np.bincount(y, minlength=classes))


def _same(row: Tensor) -> Tensor:
    return row


def of_rows(rows: list[dict[str, str]]) -> dict[str, ClassAccuracy]:
    """label -> what `ClassAccuracy.rows` wrote."""
    found = {}
    for label in dict.fromkeys(row["label"] for row in rows):
        own = [row for row in rows if row["label"] == label]
        models = tuple(dict.fromkeys(row["model"] for row in own))
        correct = np.array([float(row["correct"]) for row in own]).reshape(len(models), -1)
        samples = np.array([int(row["samples"]) for row in own[: correct.shape[1]]])
        found[label] = ClassAccuracy(models, correct, samples)
    return found
