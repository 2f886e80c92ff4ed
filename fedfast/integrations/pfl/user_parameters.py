"""One user's parameters after its local steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from torch import Tensor

from ... import FlatLayout


class Update(Protocol):
    """What is read of `Cohort.train`'s result."""

    start: Tensor

    @property
    def models(self) -> Tensor: ...
    def mean(self, weights: Tensor) -> Tensor: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True, eq=False)
class UserParameters:
    """Row j of what a cohort has trained: memory that its next call overwrites."""

    update: Update
    j: int
    layout: FlatLayout

    @property
    def trained(self) -> tuple[Tensor, Tensor]:
        """The trained parameters after and before training, each a row."""
        width = self.layout.trained
        return self.update.models[self.j, :width], self.update.start[:width]

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The trained parameters by name: views."""
        return self.layout.views(self.trained[0], trained_only=True)

    def weighted_difference(self, weights: Tensor) -> dict[str, Tensor]:
        """By name, the mean over all users of the call, less the start; sums in float64."""
        width = self.layout.trained
        mean = self.update.mean(weights)[:width] - self.update.start[:width]
        return self.layout.views(mean, trained_only=True)
