"""Numbers of a model's outputs on one node's validation samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from .losses import Loss, is_cross_entropy


@dataclass(frozen=True)
class Scores:
    """losses: means of the batches, of `sizes` samples each; correct: right predictions, or nan."""

    losses: np.ndarray
    sizes: np.ndarray
    correct: float

    def figures(self) -> dict[str, float]:
        """What an evaluate reply may hold."""
        n = float(self.sizes.sum())
        weighed = float(self.losses @ self.sizes)
        return {
            "mean loss over batches": float(self.losses.mean()),
            "mean loss over samples": weighed / n,
            "sum of batch losses": float(self.losses.sum()),
            "sum of losses": weighed,
            "sum of batch losses / samples": float(self.losses.sum()) / n,
            "accuracy": self.correct / n,
            "accuracy in percent": 100 * self.correct / n,
            "correct": self.correct,
            "samples": n,
            "batches": float(len(self.sizes)),
        }


def scores_of(loss: Loss, outputs: Tensor, y: Tensor, sizes: Sequence[int]) -> Scores:
    """The scores of outputs [n, ...], whose batches follow one another."""
    counts = np.asarray(sizes, dtype=np.float64)
    if outputs.ndim == 2 and outputs.shape[1] > 1 and y.ndim == 1:
        correct = float((outputs.argmax(1) == y).sum())
    else:
        correct = float("nan")
    if is_cross_entropy(loss):
        each = F.cross_entropy(outputs, y, reduction="none").double().numpy()
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        return Scores(np.add.reduceat(each, starts) / counts, counts, correct)
    parts = zip(outputs.split(list(sizes)), y.split(list(sizes)), strict=True)
    return Scores(np.array([float(loss(o, t)) for o, t in parts]), counts, correct)
