"""What an algorithm adds to the gradient, where that is the same in all steps of a round.

    d = sum_j c_j t_j + lam (v - w_ref) + wd v,  one t_j being the gradient g, the others constant
      = share (g + addend) + (wd + lam) v
    addend = (sum of the other c_j t_j - lam w_ref) / share

One row for each client, written before its first step, is all that a folded step then reads beside
its weights: see `executor.Fold`. A clip that acts on `lam v` too has no such form.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from torch import Tensor

from . import kernels
from .algorithms.drift import Renewal
from .algorithms.hooks import Clients, Direction, listed
from .algorithms.row_calls import place_of
from .kernels.placed import PlacedRows, RowsLike

Terms = tuple[tuple[RowsLike, float], ...]


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
        terms = [number for t, c in self.terms for number in (*place_of(t), c)]
        return "addend", *place_of(self.row), *terms

    @property
    def alike(self) -> Tensor | None:
        """See `RowFill`: whose rows lie at the same places, as of all who never took part."""
        placed = [t for t, _ in self.terms if isinstance(t, PlacedRows)]
        own = any(isinstance(t, Tensor) and t.ndim == 2 and t.stride(0) for t, _ in self.terms)
        if own or not placed or any(t.places is not placed[0].places for t in placed):
            return None
        return placed[0].places

    def apply(self, backend: str) -> None:
        """Write the addend."""
        (first, a), *others = self.terms
        out = self.row[:1] if self.shared else self.row
        terms = [*others, (first, a - 1.0)] if a != 1.0 or not others else others
        kernels.step(first, terms, -1.0, out=out, backend=backend)


@dataclass(frozen=True)
class RowRenewal:
    """A drift's `Renewal` as an update in a plan: every operand lies where it will next round."""

    renewal: Renewal

    @property
    def key(self) -> tuple[Hashable, ...]:
        """See `RowUpdate`."""
        terms = [
            number
            for t, c in self.renewal.terms
            for number in (*place_of(t), *(place_of(c) if isinstance(c, Tensor) else (c,)))
        ]
        return "renewal", *place_of(self.renewal.came), *place_of(self.renewal.kept), *terms

    def apply(self, backend: str) -> None:
        """Write the client's row."""
        self.renewal.apply(backend)


def renewal_of(renewal: Renewal | None, held: Tensor) -> RowRenewal | None:
    """What a plan does behind a client's last step.

    held  [J, K], memory for coefficients that differ between clients
    """
    if renewal is None:
        return None
    terms = [
        (t, row[: len(c)].copy_(c) if isinstance(c, Tensor) else c)
        for (t, c), row in zip(renewal.terms, held, strict=False)
    ]
    return RowRenewal(replace(renewal, terms=terms))


def correction_of(direction: Direction, at: Clients, rows: Tensor) -> Correction | None:
    """What `direction`, of the first step, adds to `at.g`; None where it adds nothing.

    rows  [K, trained], memory for the addend
    Raises ValueError for a direction that is not of this form.
    """
    share = 0.0
    found: dict[tuple[int, ...], tuple[RowsLike, float]] = {}
    constants = listed(direction.terms)
    if direction.w_ref is not None:
        constants.append((direction.w_ref, -direction.lam))
    for t, c in constants:
        if isinstance(c, Tensor):
            raise ValueError("direction: expected numbers as coefficients of a constant correction")
        if t is at.g:
            share += c
        else:
            row, before = found.get(place_of(t), (t, 0.0))
            found[place_of(t)] = row, before + c
    if not share:
        raise ValueError("direction: expected the gradient among the terms; got none of it")
    if isinstance(direction.lam, Tensor):
        raise ValueError("direction: expected a number for lam of a constant correction")
    decay = direction.weight_decay + (0.0 if direction.w_ref is None else direction.lam)
    terms = tuple((t, c / share) for t, c in found.values())
    if not terms:
        return None if share == 1.0 and not decay else Correction(share, decay, (), rows[:0])
    shared = all(isinstance(t, Tensor) and t.ndim == 1 for t, _ in terms)
    row = rows[:1].expand(len(at), -1) if shared else rows[: len(at)]
    return Correction(share, decay, terms, row)
