"""K Lanczos runs side by side, with full reorthogonalisation.

    H q_j = beta_{j-1} q_{j-1} + alpha_j q_j + beta_j q_{j+1},    T = Q^T H Q tridiagonal

Vectors have the models' dtype, as products have; coefficients are float64. Each model's vectors are
worked on by themselves, on one thread, so that company does not change a bit of them.
(Golub, Van Loan, "Matrix Computations", 4th ed., section 10.3.)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...worker_pool import WorkerPool
from .basis import Basis, dot
from .vectors import Products, normal

EXHAUSTED = 1e-13  # of the largest coefficient: the Krylov space holds nothing more
Fresh = Callable[[int], Tensor]
SHARED = 1 << 16  # numbers of all models' vectors that are worth a second thread


class Run:
    """One model's basis and coefficients. start: a row of norm 1 `[T]`; size: P."""

    def __init__(self, start: Tensor, size: int) -> None:
        self.basis, self.alpha, self.beta = Basis(start), list[float](), list[float]()
        self.size = size

    def take(self, product: Tensor, last: Tensor, before: Tensor, fresh: Fresh) -> None:
        """One step, from `H q_j`, q_j and q_{j-1}, rows [T]; q_{j+1} takes the product's place."""
        self.alpha.append(dot(product, last))
        product.sub_(last, alpha=self.alpha[-1])
        if self.beta:
            product.sub_(before, alpha=self.beta[-1])
        norm, scale = self.basis.apart(product), max(map(abs, [*self.alpha, *self.beta]))
        whole = len(self.basis) >= self.size
        if whole or norm <= EXHAUSTED * scale:  # a new direction; none after P steps
            self.beta.append(0.0)
            product.copy_(torch.zeros_like(last) if whole else fresh(len(self.basis)))
            norm = self.basis.apart(product)
        else:
            self.beta.append(norm)
        product.div_(norm if norm > 0 else 1.0)
        self.basis.append(product)

    def solved(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values descending, residual bounds `beta_j |s_j|`, vectors of T in columns."""
        t = np.diag(self.alpha)
        t.flat[len(t) :: len(t) + 1] = self.beta[:-1]  # the lower half is read alone
        values, vectors = torch.linalg.eigh(torch.from_numpy(t))
        values, vectors = values.flip(0), vectors.flip(1)
        return values, self.beta[-1] * vectors[-1].abs(), vectors


class Runs:
    """A run of each model, from the same vector `start` [P] float64."""

    def __init__(self, products: Products, start: Tensor, seed: int) -> None:
        self.products, self._seed, trained = products, seed, products.trained
        self._last = products.rows([start] * products.models)
        self._before, self._next = (torch.zeros_like(self._last) for _ in range(2))
        self.each = [Run(row[:trained], products.parameters) for row in self._last]
        large = products.models * trained >= SHARED
        workers = min(torch.get_num_threads(), products.models) if large else 1
        self._pool = WorkerPool(workers)

    def multiply(self, active: list[bool]) -> None:
        """One step of the active ones."""
        self.products.of_rows(self._last, self._next, active)
        turns = itertools.count()

        def work(_: int) -> None:
            while (k := next(turns)) < len(active):
                if active[k]:
                    product, last, before = (t[k, : self.products.trained] for t in places)
                    self.each[k].take(product, last, before, self._fresh)

        places = self._next, self._last, self._before
        self._pool.each(work)
        self._last, self._before, self._next = places

    def _fresh(self, turn: int) -> Tensor:
        """A random vector, where an invariant space has been found; the same for every model."""
        drawn = normal(self._seed, 1_000_000 + turn, self.products.parameters)
        return self.products.row(drawn)
