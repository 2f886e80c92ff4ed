"""In which coordinates the Hessians of K models are solved.

Models whose first layer is dense, on fewer samples than inputs, in those of their samples' span
(`reduction.py`); others in their parameters. Which, follows from a model's own samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ...data import Samples
from ...layout import FlatLayout
from ..accuracy import Loss
from .product import product_for, program_with, samples_of_each
from .program_product import ProgramProduct
from .reduction import coordinates, entry, reduce
from .vectors import Products

Lift = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Space:
    """Models that are solved side by side.

    models   their numbers
    outside  how many eigenvalues of each have no place in the coordinates; they are 0
    spare    how many eigenvalues 0 the coordinates surely hold; None where nothing is outside
    lift     (place of a model, vectors `[T, P']`) -> vectors over its parameters `[T, P]`
    """

    models: list[int]
    products: Products
    outside: int = 0
    spare: int | None = None
    lift: Lift = lambda _, vectors: vectors


@dataclass(frozen=True)
class Problem:
    """What `Hessian` is given, see there."""

    module: nn.Module
    layout: FlatLayout
    loss: Loss | str
    rows: Tensor
    samples: list[Samples]
    batch: int
    progress: Callable[[], None] = lambda: None
    batch_statistics: int | None = None

    def spaces(self) -> list[Space]:
        """One for all models of as many coordinates."""
        own = samples_of_each(self.layout, self.rows, self.samples)
        if self.batch_statistics is not None:
            return [self.whole(range(len(own)))]
        program = program_with(self.module, self.layout, self.loss, own)
        layer = None if program is None else entry(program, self.layout)
        if program is None or layer is None:
            return [self.whole(range(len(own)))]
        groups: dict[int | None, list[int]] = {}
        for k, samples in enumerate(own):
            groups.setdefault(coordinates(program, len(samples)), []).append(k)
        found = []
        for size, models in groups.items():
            if size is None:
                found.append(self.whole(models))
                continue
            some = self.rows[models], [own[k] for k in models]
            r = reduce(program, self.layout, layer, *some, size)
            product = ProgramProduct(r.program, r.layout, r.rows, r.samples, self.batch)
            outside = self.layout.parameters - r.layout.parameters
            found.append(Space(models, Products(product, self.progress), outside, r.spare, r.lift))
        return found

    def whole(self, models: Sequence[int]) -> Space:
        """Some models in their parameters."""
        some = self.rows[list(models)], [self.samples[k] for k in models]
        product = product_for(
            *(self.module, self.layout, self.loss, *some),
            batch=self.batch,
            batch_statistics=self.batch_statistics,
        )
        return Space(list(models), Products(product, self.progress))
