"""What an algorithm adds to the gradient, where that is the same in all steps of a round.

    d = sum_j c_j t_j + lam (v - w_ref) + wd v,  one t_j being the gradient g, the others constant
      = share (g + addend) + (wd + lam) v
    addend = (sum of the other c_j t_j - lam w_ref) / share

One row for each client, written before its first step, is all that a folded step then reads beside
its weights: see `executor.Fold`. A clip that acts on `lam v` too has no such form.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from . import kernels
from .algorithms.hooks import Clients, Direction, listed
from .kernels._args import Coefficient

Terms = tuple[tuple[Tensor, float], ...]


@dataclass(frozen=True)
class Correction:
    """`share (g + addend) + weight_decay v`.

    terms  constant rows [K, trained] or [trained] and what they are multiplied by in the addend
    row    [K, trained], receives the addend; row stride 0 where it is the same for all clients
    """

    share: float
    weight_decay: float
    terms: Terms
    row: Tensor

    @property
    def shared(self) -> bool:
        """Whether the addend is one row."""
        return bool(self.terms) and self.row.stride(0) == 0

    @property
    def key(self) -> tuple[Hashable, ...]:
        """See `RowUpdate`."""
        places = [number for t, c in self.terms for number in (t.data_ptr(), t.stride(0), c)]
        return "addend", self.row.data_ptr(), self.row.stride(0), *places

    def apply(self, backend: str) -> None:
        """Write the addend."""
        (first, a), *others = self.terms
        (second, b), *others = others or [(first, 0.0)]
        out = self.row[:1] if self.shared else self.row
        kernels.mix(first, second, a, b, out=out, backend=backend)
        for t, c in others:
            kernels.mix(out, t, 1.0, c, out=out, backend=backend)


def correction_of(direction: Direction, at: Clients, rows: Tensor) -> Correction | None:
    """What `direction`, of the first step, adds to `at.g`; None where it adds nothing.

    rows  [K, trained], memory for the addend
    Raises ValueError for a direction that is not of this form.
    """
    share, found = 0.0, {}
    constants = listed(direction.terms)
    if direction.w_ref is not None:
        constants.append((direction.w_ref, _negative(direction.lam)))
    for t, c in constants:
        if isinstance(c, Tensor):
            raise ValueError("direction: expected numbers as coefficients of a constant correction")
        if t is at.g:
            share += c
        else:
            row, before = found.get(t.data_ptr(), (t, 0.0))
            found[t.data_ptr()] = row, before + c
    if not share:
        raise ValueError("direction: expected the gradient among the terms; got none of it")
    if isinstance(direction.lam, Tensor):
        raise ValueError("direction: expected a number for lam of a constant correction")
    decay = direction.weight_decay + (0.0 if direction.w_ref is None else direction.lam)
    terms = tuple((t, c / share) for t, c in found.values())
    if not terms:
        return None if share == 1.0 and not decay else Correction(share, decay, (), rows[:0])
    shared = all(t.ndim == 1 or t.stride(0) == 0 for t, _ in terms)
    row = rows[:1].expand(len(at), -1) if shared else rows[: len(at)]
    return Correction(share, decay, terms, row)


def _negative(c: Coefficient) -> Coefficient:
    return -c
