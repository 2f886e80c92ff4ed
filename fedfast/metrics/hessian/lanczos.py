"""K Lanczos runs side by side, with full reorthogonalisation.

    H q_j = beta_{j-1} q_{j-1} + alpha_j q_j + beta_j q_{j+1},    T = Q^T H Q tridiagonal

Vectors have the models' dtype, as products have; coefficients are float64. Each model's vectors are
worked on by themselves, on one thread, so that company does not change a bit of them.
(Golub, Van Loan, "Matrix Computations", 4th ed., section 10.3.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ...torch_settings import torch_threads
from ...worker_pool import WorkerPool
from .basis import Basis, dot
from .vectors import Products, normal

EXHAUSTED = 1e-13  # of the largest coefficient: the Krylov space holds nothing more
Fresh = Callable[[int], Tensor]
SHARED = 1 << 16  # numbers of all models' vectors that are worth a second thread


class Run:
    """One model's basis and coefficients.

    start   a row `[T]`, is made orthogonal to `beside` and of norm 1 in place
    size    P
    beside  orthonormal rows that the basis is orthogonal to: what is found is the spectrum of H
            between them
    lost    whether a product was not finite, or too large for its dtype: there is no spectrum
    """

    def __init__(self, start: Tensor, size: int, beside: Sequence[Tensor] = ()) -> None:
        self.alpha, self.beta, self.lost = list[float](), list[float](), False
        self._size, self._beside, self._basis = size, len(beside), Basis(beside)
        start.div_(self._basis.apart(start))
        self._basis.append(start)

    @property
    def complete(self) -> bool:
        """Whether T has all eigenvalues."""
        return len(self.alpha) == self._size - self._beside

    def take(self, product: Tensor, last: Tensor, before: Tensor, fresh: Fresh) -> None:
        """One step, from `H q_j`, q_j and q_{j-1}, rows [T]; q_{j+1} takes the product's place."""
        alpha = dot(product, last)
        product.sub_(last, alpha=alpha)
        if self.beta:
            product.sub_(before, alpha=self.beta[-1])
        norm = self._basis.apart(product)
        self.lost = not (math.isfinite(alpha) and math.isfinite(norm))
        if not self.lost:
            self.alpha.append(alpha)
            self._go_on(product, norm, fresh)

    def _go_on(self, rest: Tensor, norm: float, fresh: Fresh) -> None:
        """With what is left of the product, of norm beta_j; where that is 0, a new direction."""
        scale = max(map(abs, [*self.alpha, *self.beta]))
        if self.complete or norm <= EXHAUSTED * scale:
            self.beta.append(0.0)  # there is no direction after the last
            rest.copy_(torch.zeros_like(rest) if self.complete else fresh(len(self._basis)))
            norm = self._basis.apart(rest)
        else:
            self.beta.append(norm)
        rest.div_(norm if norm > 0 else 1.0)
        self._basis.append(rest)

    def solved(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values descending, residual bounds `beta_j |s_j|`, vectors of T in columns."""
        t = np.diag(self.alpha)
        t.flat[len(t) :: len(t) + 1] = self.beta[:-1]  # the lower half is read alone
        values, vectors = torch.linalg.eigh(torch.from_numpy(t))
        values, vectors = values.flip(0), vectors.flip(1)
        return values, self.beta[-1] * vectors[-1].abs(), vectors

    def combined(self, weights: Tensor) -> Tensor:
        """Sums of the vectors multiplied so far: weights `[N, steps]` give rows `[N, T]`."""
        return self._basis.combined(pad(weights, (self._beside, 0)))


class Runs:
    """A run of each model, from the same vector `start` [P] float64; beside: of each, see `Run`."""

    def __init__(
        self,
        products: Products,
        start: Tensor,
        seed: int,
        beside: Sequence[Sequence[Tensor]] | None = None,
    ) -> None:
        self.products, self._seed, trained = products, seed, products.trained
        self._last = products.rows([start] * products.models)
        self._before, self._next = (torch.zeros_like(self._last) for _ in range(2))
        own = [()] * products.models if beside is None else beside
        with torch_threads(1):  # the order of a sum may depend on how many threads share it
            pairs = zip(self._last[:, :trained], own, strict=True)
            self.each = [Run(row, products.parameters, vectors) for row, vectors in pairs]
        large = products.models * trained >= SHARED
        workers = min(torch.get_num_threads(), products.models) if large else 1
        self._pool = WorkerPool(workers)

    def multiply(self, active: list[bool]) -> None:
        """One step of the active ones. A run that is lost is not active."""
        for row, on in zip(self._last, active, strict=True):
            if not on:  # products of products would overflow, or become slow denormal numbers
                row.zero_()
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
