"""Orthonormal vectors of one model, kept side by side: sums over them are matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 16  # vectors that share memory
DROP = 0.7  # of the norm: what is left of a vector that lost more must be cleaned again
PASSES = 3  # at most; two are enough but for the rounding of the first (Kahan, Parlett)


class Basis:
    """Vectors `[P]` in their own dtype."""

    def __init__(self, first: Tensor) -> None:
        self._blocks, self._count = list[Tensor](), 0
        self.append(first)

    def __len__(self) -> int:
        return self._count

    def append(self, vector: Tensor) -> None:
        """One more."""
        at = self._count % BLOCK
        if at == 0:
            self._blocks.append(vector.new_empty(BLOCK, len(vector)))
        self._blocks[-1][at] = vector
        self._count += 1

    def __getitem__(self, i: int) -> Tensor:
        i = range(self._count)[i]
        return self._blocks[i // BLOCK][i % BLOCK]

    def _filled(self) -> list[Tensor]:
        last = self._count - BLOCK * (len(self._blocks) - 1)
        return [*self._blocks[:-1], self._blocks[-1][:last]]

    def apart(self, vector: Tensor) -> tuple[Tensor, float]:
        """What of a vector is orthogonal to all, and its norm; in the vector's memory."""
        norm = float(vector.norm(dtype=torch.float64))
        for _ in range(PASSES):
            for block in self._filled():
                vector.addmv_(block.T, block @ vector, alpha=-1)
            before, norm = norm, float(vector.norm(dtype=torch.float64))
            if norm >= DROP * before:
                break
        return vector, norm

    def combined(self, weights: Tensor) -> Tensor:
        """Sums of the first vectors, float64: weights `[T, n]` give `[T, P]`."""
        total = weights.new_zeros(len(weights), len(self[0]))
        for i in range(weights.shape[1]):
            total.addr_(weights[:, i], self[i].double())
        return total
