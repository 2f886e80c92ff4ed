"""The norms of a row's tensors, asked for every round."""

from __future__ import annotations

import numpy as np
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
        self._recorded: RecordedNorms | None = None

    def sum(self) -> float:
        """The sum of the tensors' Euclidean norms."""
        if self._recorded is not None:
            return self._recorded.sum()
        if capabilities(self._backend, self._row).plans:
            with kernels.Plan(whole=True) as plan:
                self._write()
            self._recorded = RecordedNorms(plan, self._squares)
            return self._recorded.sum()
        self._write()
        return float(square_root(self._squares).sum())

    def _write(self) -> None:
        kernels.stats(self._row, segments=self._segments, out=self._sums, backend=self._backend)


class RecordedNorms:
    """plan: writes squares [L], on the CPU."""

    def __init__(self, plan: kernels.Plan, squares: Tensor) -> None:
        self._plan, self._squares, self._norms = plan, squares.numpy(), torch.empty_like(squares)
        self._room = self._norms.numpy()

    def sum(self) -> float:
        """The sum of their roots."""
        self._plan.run_whole()
        np.sqrt(self._squares, out=self._room)  # as `square_root` has it
        return float(self._norms.sum())
