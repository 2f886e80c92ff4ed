"""One user's parameters after its local steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ... import FlatLayout


@dataclass(frozen=True, eq=False)
class UserParameters:
    """row [S] after training, start [S] before it: memory of the cohort."""

    row: Tensor
    start: Tensor
    layout: FlatLayout

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The trained parameters by name: views."""
        return self.layout.views(self.row[: self.layout.trained], trained_only=True)
