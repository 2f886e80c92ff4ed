"""K Lanczos runs side by side, with full reorthogonalisation.

    H q_j = beta_{j-1} q_{j-1} + alpha_j q_j + beta_j q_{j+1},    T = Q^T H Q tridiagonal

The basis has the models' dtype, as products have; coefficients are float64. Each model's vectors are
worked on by themselves, on one thread, so that company does not change a bit of them.
(Golub, Van Loan, "Matrix Computations", 4th ed., section 10.3.)
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ...worker_pool import WorkerPool
from .basis import Basis
from .vectors import Products, normal

EXHAUSTED = 1e-13  # of the largest coefficient: the Krylov space holds nothing more
SHARED = 1 << 16  # numbers of all models' vectors that are worth a second thread


class Run:
    """One model's basis and coefficients. start: a vector of norm 1 `[P]`, in the basis' dtype."""

    def __init__(self, start: Tensor, seed: int) -> None:
        self.basis, self.alpha, self.beta = Basis(start), list[float](), list[float]()
        self._seed, self._length = seed, len(start)

    @property
    def last(self) -> Tensor:
        """The vector to be multiplied next."""
        return self.basis[-1]

    def take(self, product: Tensor) -> None:
        """One step, from `H q_j` [P] float64, which it overwrites."""
        last = self.last.double()
        self.alpha.append(float(product @ last))
        product.sub_(last, alpha=self.alpha[-1])
        if self.beta:
            product.sub_(self.basis[-2], alpha=self.beta[-1])
        rest, norm = self.basis.apart(product.to(self.last.dtype))
        scale = max(map(abs, [*self.alpha, *self.beta]))
        if norm <= EXHAUSTED * scale or len(self.basis) >= self._length:
            self.beta.append(0.0)
            rest, norm = self._fresh()
        else:
            self.beta.append(norm)
        self.basis.append(rest / norm if norm > 0 else rest)

    def solved(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values descending, residual bounds `beta_j |s_j|`, vectors of T in columns."""
        off = torch.tensor(self.beta[:-1], dtype=torch.float64)
        t = torch.diag(torch.tensor(self.alpha, dtype=torch.float64))
        values, vectors = torch.linalg.eigh(t + torch.diag(off, 1) + torch.diag(off, -1))
        values, vectors = values.flip(0), vectors.flip(1)
        return values, self.beta[-1] * vectors[-1].abs(), vectors

    def _fresh(self) -> tuple[Tensor, float]:
        """A new direction, where an invariant space has been found; zero after P steps."""
        if len(self.basis) >= self._length:
            return torch.zeros_like(self.last), 0.0
        drawn = normal(self._seed, 1_000_000 + len(self.basis), self._length)
        return self.basis.apart(drawn.to(self.last.dtype))


class Runs:
    """A run of each model, from the same vector `start` [P] float64."""

    def __init__(self, products: Products, start: Tensor, seed: int) -> None:
        self.products = products
        self.each = [Run(start.to(products.dtype), seed) for _ in range(products.models)]
        large = products.models * products.parameters >= SHARED
        workers = min(torch.get_num_threads(), products.models) if large else 1
        self._pool = WorkerPool(workers)

    def multiply(self, active: list[bool]) -> None:
        """One step of the active ones."""
        turns, idle = itertools.count(), torch.zeros_like(self.each[0].last)
        pairs = zip(self.each, active, strict=True)
        found = self.products.rows(run.last if on else idle for run, on in pairs)

        def work(_: int) -> None:
            while (k := next(turns)) < len(active):
                if active[k]:
                    self.each[k].take(self.products.vector(found[k]))

        self._pool.each(work)
