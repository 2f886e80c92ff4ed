"""K Lanczos runs side by side, with full reorthogonalisation.

    H q_j = beta_{j-1} q_{j-1} + alpha_j q_j + beta_j q_{j+1},    T = Q^T H Q tridiagonal

Each model's vectors are worked on by themselves, in memory of their own, so that company does not
change a bit of them: where an array begins decides in which order BLAS adds up.
(Golub, Van Loan, "Matrix Computations", 4th ed., section 10.3.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...torch_settings import torch_threads
from .vectors import Products, normal

EXHAUSTED = 1e-13  # of the largest coefficient: the Krylov space holds nothing more


class Run:
    """One model's basis and coefficients.

    start   a vector of norm 1 `[P]`
    beside  orthonormal vectors `[P]` that the basis is orthogonal to: what is found is the spectrum
            of H between them
    lost    whether a product was not finite: the model has no spectrum
    """

    def __init__(self, start: Tensor, seed: int, beside: Sequence[Tensor] = ()) -> None:
        self.alpha, self.beta, self.lost = list[float](), list[float](), False
        self._seed, self._beside = seed, [vector.clone() for vector in beside]
        self.basis = list[Tensor]()
        self.basis.append(_unit(self._apart(start)) if beside else start)

    @property
    def room(self) -> int:
        """How many vectors the basis can have."""
        return len(self.basis[0]) - len(self._beside)

    @property
    def complete(self) -> bool:
        """Whether T has all eigenvalues."""
        return len(self.alpha) == self.room

    @property
    def last(self) -> Tensor:
        """The vector to be multiplied next."""
        return self.basis[-1]

    def take(self, product: Tensor) -> None:
        """One step, from `H q_j` [P]."""
        self.lost = not bool(product.isfinite().all())
        if self.lost:
            return
        self.alpha.append(float(product @ self.last))
        rest = self._apart(product)
        norm, scale = float(rest.norm()), max(map(abs, [*self.alpha, *self.beta]))
        if norm <= EXHAUSTED * scale or len(self.basis) >= self.room:
            norm, rest = 0.0, self._fresh(len(product))
        self.beta.append(norm)
        self.basis.append(_unit(rest))

    def solved(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values descending, residual bounds `beta_j |s_j|`, vectors of T in columns."""
        off = torch.tensor(self.beta[:-1], dtype=torch.float64)
        t = torch.diag(torch.tensor(self.alpha, dtype=torch.float64))
        values, vectors = torch.linalg.eigh(t + torch.diag(off, 1) + torch.diag(off, -1))
        values, vectors = values.flip(0), vectors.flip(1)
        return values, self.beta[-1] * vectors[-1].abs(), vectors

    def _apart(self, vector: Tensor) -> Tensor:
        """What of it is orthogonal to the basis; twice is enough (Kahan, Parlett)."""
        for _ in range(2):
            for q in (*self._beside, *self.basis):
                vector = vector - (q @ vector) * q
        return vector

    def _fresh(self, length: int) -> Tensor:
        """A new direction, where an invariant space has been found; zero after the last."""
        if len(self.basis) >= self.room:
            return torch.zeros(length, dtype=torch.float64)
        return self._apart(normal(self._seed, 1_000_000 + len(self.basis), length))


def _unit(vector: Tensor) -> Tensor:
    """Of length 1; zero stays zero."""
    length = vector.norm()
    return vector / length if length > 0 else vector


def multiply(products: Products, runs: list[Run], active: list[bool]) -> None:
    """One step of the active runs, one for each model. A run that is lost is not active."""
    pairs = zip(runs, active, strict=True)
    found = products(torch.stack([r.last if on else torch.zeros_like(r.last) for r, on in pairs]))
    with torch_threads(1):  # the order of a sum may depend on how many threads share it
        for run, on, product in zip(runs, active, found, strict=True):
            if on:
                run.take(product.clone())
    active[:] = [on and not run.lost for run, on in zip(runs, active, strict=True)]
