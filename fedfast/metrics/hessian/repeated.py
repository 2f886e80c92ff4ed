"""Eigenvalues that a Lanczos run cannot see.

A Krylov space has one vector of each eigenspace: of an eigenvalue that H has several times (classes
that are alike, models whose weights are zero) a run finds one copy. The largest eigenvalue in the
space orthogonal to all that has been found is one more of the largest, or smaller than all of them.
(Golub, Van Loan, "Matrix Computations", 4th ed., section 10.3.)
"""

from __future__ import annotations

from functools import partial

from .lanczos import Run, Runs
from .ritz import Found, Search
from .vectors import normal

STREAM = 2_000_000  # of start vectors
NEAR = 1e-2  # of the largest magnitude: a bound that tells whether a value is below others


def add_repeated(search: Search, found: list[Found]) -> None:
    """Run beside what each model has found until the largest of a run is none of the largest."""
    products, size = search.products, search.products.parameters
    beside = [[products.row(v) for v in one.vectors] for one in found]
    active = [one.done and not one.whole for one in found]
    for turn in range(size):
        active = [on and len(own) < size for on, own in zip(active, beside, strict=True)]
        if not any(active):
            return
        start = normal(search.seed, STREAM + turn, size)
        own = [b if on else [] for b, on in zip(beside, active, strict=True)]
        runs = Runs(products, start, search.seed, own)
        search.run(runs, active, partial(_known, search.tol, found))
        for k, run in enumerate(runs.each):
            if active[k]:
                other = Found(products, run, 1, _known(search.tol, found, k, run))
                active[k] = found[k].take(other) and other.done
                beside[k].append(products.row(other.vectors[0]))


def _known(tol: float, found: list[Found], k: int, run: Run) -> bool:
    """Whether the largest is known, or known to be below those found."""
    if run.lost or run.complete:
        return run.complete
    one, (values, bounds, _) = found[k], run.solved()
    value, bound = float(values[0]), float(bounds[0])
    below = bound <= NEAR * one.scale and value + bound < float(one.values[-1])
    return below or bound <= tol * one.scale
