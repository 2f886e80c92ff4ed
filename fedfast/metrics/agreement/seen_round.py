"""`SeenRound`: what a round metric reads, at the end of the round.

Letters: C clients of the cohort, `u_k = v_k - sent` the update of client k [trained], `p_k` its
weight in the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ... import kernels
from ...algorithms import Algorithm
from ...algorithms.hooks import Cohort, ServerView, TrainedLayout
from ...kernels import Column


@dataclass(frozen=True)
class SeenRound:
    """A round whose clients have trained and whose server has made its step.

    algorithm, layout, backend  of the run
    cohort   ids, weights p_k, sizes, ... of the clients, in processing order
    before   the server's state when the round began; after: the one it ends with
    sent     [trained], the model that clients received (FedGloSS: perturbed)
    mean     [trained] float64, the mean update that the server's rule took (FedGH: harmonized)
    squares  [C] float64, `|u_k|^2`
    plain_square  [] float64, what `plain` reads
    directions_or_none, lengths  see `directions`
    models_or_none, measured     see `models`
    """

    algorithm: Algorithm
    layout: TrainedLayout
    backend: str
    cohort: Cohort
    before: ServerView
    after: ServerView
    sent: Tensor
    mean: Tensor
    squares: Tensor
    plain_square: Tensor
    directions_or_none: Tensor | None
    lengths: Tensor
    models_or_none: Tensor | None
    measured: Tensor

    @property
    def directions(self) -> Tensor:
        """`sum_k l_k u_k / |u_k|` [trained] float64; clients that did not move are left out.

        l_k  `lengths` [C] float64: 1, but for the rounding of the weight `1 / |u_k|` to the type
             of the rows; 0 where `u_k = 0`
        Raises ValueError where the metric does not say that it needs them.
        """
        return _known("directions", self.directions_or_none)

    @property
    def models(self) -> Tensor:
        """`v_k` [M, trained] of the clients at the positions `measured` [M] of the cohort.

        All of them where the server's rule reads all models, or where they take less than
        `measured_models.KEPT` bytes; else as many as that, evenly spread over the ids.
        Raises ValueError where the metric does not say that it needs them.
        """
        return _known("models", self.models_or_none)

    @property
    def plain(self) -> float:
        """`|sum_k p_k u_k|^2`, before a rule reweighed it."""
        return float(self.plain_square)

    def dots(self, a: Tensor, b: Tensor) -> tuple[float, float, float]:
        """(aa, ab, bb) of two rows [trained], in float64 and in a fixed order."""
        return dots_in(self.sums(a, b).cpu().numpy())

    def sums(self, a: Tensor, b: Tensor) -> Tensor:
        """What `dots_in` finds them in, where the rows are. [columns] float64"""
        return kernels.stats(a.double()[None], b.double()[None], backend=self.backend)[0, 0]

    def square(self, a: Tensor) -> float:
        """`|a|^2` of a row [trained], in float64 and in a fixed order."""
        return float(self.square_of(a))

    def square_of(self, a: Tensor) -> Tensor:
        """The same, where the row is. [] float64"""
        return kernels.stats(a[None], backend=self.backend)[0, 0, Column.XX]

    def gram(self) -> Tensor:
        """Inner products of the updates of `models`, tensor by tensor. [L, M, M] float64"""
        segments = self.layout.segments
        return kernels.gram(self.models, self.sent, segments=segments, backend=self.backend)

    @staticmethod
    def total(numbers: Tensor) -> float:
        """The sum of numbers of all clients [C], in an order that no thread changes."""
        return float(numbers.cpu().numpy().sum())


def dots_in(sums: np.ndarray) -> tuple[float, float, float]:
    """(aa, ab, bb) of the rows that `SeenRound.sums` was given."""
    return float(sums[Column.XX]), float(sums[Column.XY]), float(sums[Column.YY])


def _known(name: str, value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError(
            f"metrics: expected seen.{name} to be read by metrics with "
            f'@measures(..., needs=("{name}",)) alone'
        )
    return value


def cosine(aa: float, ab: float, bb: float) -> float:
    """`ab / sqrt(aa bb)`, nan where one of them is no direction."""
    length = (aa * bb) ** 0.5
    return ab / length if length > 0.0 else math.nan
