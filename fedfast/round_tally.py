"""What a pass over a round's cohort collects, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Tally:
    """What a pass over the cohort collects, chunk by chunk."""

    losses: list[Tensor] = field(default_factory=list)
    train_losses: list[Tensor] = field(default_factory=list)
    start_losses: list[Tensor] = field(default_factory=list)
    numbers: list[dict[str, Tensor]] = field(default_factory=list)
    diverged: list[int] = field(default_factory=list)
    samples: int = 0

    @property
    def train_loss(self) -> float:
        """Mean over the samples seen."""
        return float(torch.cat(self.losses).sum()) / max(self.samples, 1)

    def joined(self) -> dict[str, Tensor]:
        """Numbers of all chunks, [C] by name."""
        names = self.numbers[0] if self.numbers else ()
        return {name: torch.cat([part[name] for part in self.numbers]) for name in names}


class CohortModels:
    """All models of a cohort, for rules that weigh them at the round's end. [C, trained]"""

    def __init__(self, row: Tensor, cohort: int, trained: int) -> None:
        self.cohort, self._models = cohort, row.new_zeros(0, trained)

    def store(self, part: slice, models: Tensor) -> None:
        """Keep a chunk's models until the cohort is complete."""
        if not len(self._models):
            self._models = self._models.new_zeros(self.cohort, models.shape[1])
        self._models[part] = models

    def first(self, clients: int) -> Tensor:
        """The models of so many clients."""
        return self._models[:clients]
