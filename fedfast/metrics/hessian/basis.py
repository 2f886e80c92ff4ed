"""Orthonormal vectors of one model, kept side by side: sums over them are matrix products."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

BLOCK = 16  # vectors that share memory
DROP = 0.7  # of the norm: what is left of a vector that lost more must be cleaned again
PART = 1 << 14  # elements of a sum
PASSES = 3  # at most; two are enough but for the rounding of the first (Kahan, Parlett)


class Basis:
    """Vectors `[P]` in their own dtype."""

    def __init__(self, vectors: Sequence[Tensor] = ()) -> None:
        self._blocks, self._count = list[Tensor](), 0
        for vector in vectors:
            self.append(vector)

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
        return [*self._blocks[:-1], *(block[:last] for block in self._blocks[-1:])]

    def apart(self, vector: Tensor) -> float:
        """Make a vector orthogonal to all, in place; the norm of what is left of it."""
        norm = 0.0
        for _ in range(PASSES):
            taken = 0.0
            for block in self._filled():
                shares = block @ vector
                vector.addmv_(block.T, shares, alpha=-1)
                taken += dot(shares, shares)
            norm = dot(vector, vector) ** 0.5
            if norm >= DROP * (norm**2 + taken) ** 0.5:
                break
        return norm

    def combined(self, weights: Tensor) -> Tensor:
        """Sums of the first n vectors: weights `[T, n]` give `[T, P]`, in the vectors' dtype."""
        total = self[0].new_zeros(len(weights), len(self[0]))
        parts = weights.to(total.dtype).split(BLOCK, 1)
        for part, block in zip(parts, self._blocks, strict=False):
            total.addmm_(part, block[: part.shape[1]])
        return total


def dot(a: Tensor, b: Tensor) -> float:
    """The sum of products; long sums of float32 in parts, whose sum is float64."""
    if len(a) <= PART:
        return float(a @ b)
    return sum(float(x @ y) for x, y in zip(a.split(PART), b.split(PART), strict=True))
