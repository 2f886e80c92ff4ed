"""`Drift`: the correction that keeps clients from drifting apart. The base corrects nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..kernels import step
from ..kernels._args import Coefficient, TermsLike
from ..kernels.placed import RowsLike
from ..registry import class_registry
from ._hook_checks import base, overrides
from ._parameter_checks import check_number
from .hooks import Clients, Cohort, Component, Composition, Direction, listed

# What a run's `clip_norm` acts on, where a quadratic lam/2 |v - w|^2 pulls clients to w:
#   "linear"  the gradient and the term's constant part -lam w; lam v joins the weight decay
#             afterwards (FL-Simulator and its family; the published numbers come from there)
#   "whole"   the whole corrected direction
# Without clipping both are the same.
CLIPS = ("linear", "whole")


@dataclass(frozen=True)
class Renewal:
    """`kept <- came + sum_j c_j t_j`, rows [K, trained]; c_j a number or [K]."""

    came: RowsLike
    terms: Sequence[tuple[RowsLike, Coefficient]]
    kept: RowsLike

    def apply(self, backend: str) -> None:
        """Write it."""
        step(self.came, self.terms, -1.0, out=self.kept, backend=backend)


DRIFTS = class_registry("drift correction", "Drift", lambda: Drift)


@DRIFTS.register("none")
@base
@dataclass(frozen=True)
class Drift(Component):
    """No correction. Each correction is written down in its paper's file."""

    name: ClassVar[str] = "none"
    full_gradient: ClassVar[bool] = False  # it wants `scratch["full"]`: all local data's, at w
    # What `correct` adds to the terms is the same rows, by the same numbers, in all steps of a
    # round, `w_ref` and `lam` too: then it is asked once, and its sum rides on the folded step.
    constant: ClassVar[bool] = False

    _derived: ClassVar[tuple[str, ...]] = ("plain",)

    @property
    def plain(self) -> bool:
        """Whether the direction is the gradient and nothing else."""
        return not overrides(self, "correct", Drift)

    def refuses(self, algorithm: Composition) -> str:
        """Nobody drifts apart where one client has all the data."""
        if algorithm.pools and type(self) is not Drift:
            return f"{self.name} where all data is one client's: there is no drift to correct"
        return ""

    def correct(self, at: Clients, terms: TermsLike) -> Direction:
        """The direction, from the terms of the local optimizer's gradient."""
        return Direction(terms)

    def renewal(self, at: Clients) -> Renewal | None:
        """How a client's row follows from its last model `at.w`, where that is a sum of rows.

        `finish` writes it unless `at.renewed`: the engine may have, behind each client's last step.
        """
        return None


def pulled(at: Clients, terms: TermsLike, lam: float, clip: str) -> Direction:
    """The terms plus `lam (v - w)`, w the model that was sent; see `CLIPS` for `clip`."""
    if clip == "whole":
        return Direction(terms, w_ref=at.start, lam=lam)
    return Direction([*listed(terms), (at.start, -lam)], weight_decay=lam)


def total_rate(of: Clients | Cohort, steps: float | None) -> float | Tensor:
    """`K eta`: the learning rates of each client's steps summed, or `steps` times the round's.

    [K] float64. A client moves by this times its mean direction.
    """
    return of.lr_total if steps is None else steps * of.lr


def check_steps(steps: float | None) -> None:
    """Raise unless K is None or a number above 0."""
    if steps is not None:
        check_number("steps", steps, above=True)
