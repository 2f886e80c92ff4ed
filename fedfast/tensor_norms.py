"""The norms of a row's tensors, asked for every round."""

from __future__ import annotations

import torch
from torch import Tensor

from . import kernels
from .kernels.registry import capabilities
from .kernels.segments import Segments
from .square_root import square_root


class TensorNorms:
    """Of one row [S] float64, whose place does not change; segments: its tensors."""

    def __init__(self, row: Tensor, segments: Segments, backend: str) -> None:
        self._row, self._segments, self._backend = row[None], segments, backend
        sums = torch.empty(1, segments.count, 5, dtype=torch.float64, device=row.device)
        self._sums, self._squares = sums, sums[0, :, kernels.Column.XX]
        self._plan: kernels.Plan | None = None

    def sum(self) -> Tensor:
        """The sum of the tensors' Euclidean norms, float64 []."""
        if self._plan is not None:
            self._plan.run_whole()
        elif capabilities(self._backend, self._row).plans:
            with kernels.Plan(whole=True) as plan:
                self._write()
            self._plan = plan  # complete: a signal may come before
            return self.sum()
        else:
            self._write()
        return square_root(self._squares).sum()

    def _write(self) -> None:
        kernels.stats(self._row, segments=self._segments, out=self._sums, backend=self._backend)
