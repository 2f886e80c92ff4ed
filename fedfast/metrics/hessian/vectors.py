"""Random vectors, and products in float64 without the padding of rows."""

from __future__ import annotations

from collections.abc import Iterable

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
    """`H v` of K models, of vectors of the P parameters of a row, without padding.

    models  K; parameters: P; dtype: of the models, to which vectors are rounded
    """

    def __init__(self, product: HessianProduct) -> None:
        self._product, self.models = product, product.models
        layout = product.layout
        self.parameters, self.dtype = layout.parameters, layout.dtype
        self._spans = [(slot.offset, slot.stop) for slot in layout.slots if slot.trained]
        self._rows = torch.zeros(self.models, product.stride, dtype=self.dtype)

    def rows(self, vectors: Iterable[Tensor]) -> Tensor:
        """The products of K vectors `[P]`, as rows `[K, S]`."""
        for row, vector in zip(self._rows, vectors, strict=True):
            parts = vector.split([stop - start for start, stop in self._spans])
            for (start, stop), part in zip(self._spans, parts, strict=True):
                row[start:stop] = part
        return self._product(self._rows)

    def vector(self, row: Tensor) -> Tensor:
        """A row [S] as a float64 vector [P]."""
        return torch.cat([row[start:stop] for start, stop in self._spans]).double()

    def __call__(self, v: Iterable[Tensor]) -> list[Tensor]:
        """The products of K vectors `[P]`, float64."""
        # Each in memory of its own: sums over rows of one may depend on where the row begins.
        return [self.vector(row) for row in self.rows(v)]

    def of_all(self, vector: Tensor) -> list[Tensor]:
        """The products of one vector `[P]` with every model's Hessian."""
        return self([vector] * self.models)
