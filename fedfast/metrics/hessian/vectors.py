"""Random vectors, and products in float64 without the padding of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...random import generators
from .product import HessianProduct

NORMAL, SIGNS = 101, 102  # purposes of random streams


def normal(seed: int, stream: int, length: int) -> Tensor:
    """A vector of norm 1 and random direction, float64 `[P]`; the same for every model."""
    (generator,) = generators(seed, stream, [0], NORMAL, torch.device("cpu"))
    drawn = torch.randn(length, generator=generator, dtype=torch.float64)
    return drawn / drawn.norm()


def signs(seed: int, stream: int, length: int) -> Tensor:
    """Independent +1 and -1 with equal chances, float64 `[P]`; the same for every model."""
    (generator,) = generators(seed, stream, [0], SIGNS, torch.device("cpu"))
    return torch.randint(2, (length,), generator=generator).double() * 2 - 1


class Products:
    """`H v` of K models.

    models   K; parameters: P, the length of vectors without the padding of rows
    trained  T, the length of vectors with it; dtype: of rows, to which vectors are rounded
    progress  called after every product
    """

    def __init__(
        self, product: HessianProduct, progress: Callable[[], None] = lambda: None
    ) -> None:
        self._product, self._progress, self.models = product, progress, product.models
        layout = product.layout
        self.parameters, self.trained, self.dtype = layout.parameters, layout.trained, layout.dtype
        self._slots = [slot for slot in layout.slots if slot.trained]

    def rows(self, vectors: Sequence[Tensor]) -> Tensor:
        """K vectors `[P]` as rows `[K, S]`, zero in padding."""
        rows = torch.zeros(self.models, self._product.stride, dtype=self.dtype)
        for row, vector in zip(rows, vectors, strict=True):
            self._spread(vector, row)
        return rows

    def row(self, vector: Tensor) -> Tensor:
        """A vector `[P]` as a row `[T]`."""
        return self._spread(vector, torch.zeros(self.trained, dtype=self.dtype))

    def _spread(self, vector: Tensor, row: Tensor) -> Tensor:
        parts = vector.split([slot.length for slot in self._slots])
        for slot, part in zip(self._slots, parts, strict=True):
            row[slot.offset : slot.stop] = part
        return row

    def vectors(self, rows: Tensor) -> Tensor:
        """Rows `[..., T]`, or longer, as float64 vectors `[..., P]`."""
        return torch.cat([rows[..., s.offset : s.stop] for s in self._slots], -1).double()

    def of_rows(self, rows: Tensor, out: Tensor, active: Sequence[bool]) -> None:
        """The products of rows `[K, S]` of the active models, to out; others may have any."""
        self._product(rows, out=out, active=active)
        self._progress()

    def __call__(self, v: Sequence[Tensor]) -> list[Tensor]:
        """The products of K vectors `[P]`, float64."""
        found = self._product(self.rows(v))
        self._progress()
        # Each in memory of its own: sums over rows of one may depend on where the row begins.
        return [self.vectors(row) for row in found]

    def of_all(self, vector: Tensor) -> list[Tensor]:
        """The products of one vector `[P]` with every model's Hessian."""
        return self([vector] * self.models)
