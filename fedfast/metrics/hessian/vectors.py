"""Random vectors, and products in float64 without the padding of rows."""

from __future__ import annotations

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
    """`H v` in float64 `[K, P]`: the P parameters of a row, without padding.

    models  K; parameters: P
    """

    def __init__(self, product: HessianProduct) -> None:
        self._product, self.models = product, product.models
        mask = torch.zeros(product.stride, dtype=product.layout.dtype)
        for view in product.layout.views(mask, trained_only=True).values():
            view.fill_(1)
        self._at = mask.nonzero().squeeze(1)
        self.parameters = len(self._at)

    def __call__(self, v: Tensor) -> Tensor:
        """The products of v `[K, P]`, rounded to the models' dtype on the way."""
        rows = torch.zeros(self.models, self._product.stride, dtype=self._product.layout.dtype)
        rows[:, self._at] = v.to(rows.dtype)
        return self._product(rows)[:, self._at].double()

    def of_all(self, vector: Tensor) -> Tensor:
        """The products of one vector `[P]` with every model's Hessian `[K, P]`."""
        return self(vector.expand(self.models, -1))
