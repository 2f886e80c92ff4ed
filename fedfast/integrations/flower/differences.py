"""How far two trainings of one client are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLOSE = 1e-5  # of the largest number of an array
UPDATE = 1e-2  # of the largest change of an array: a wrong learning rate shows at any scale
ROUNDING = 1e-6  # of the largest number: changes below it are rounding
EXACT = 1e-5  # of the largest change of an array, in float64: there a forgotten weight decay shows
REPLIED = 2e-7  # of the largest number: a float64 training's arrays that a function makes float32


@dataclass(frozen=True, order=True)
class Difference:
    """over: of what is allowed, > 1 where trainings differ; relative: to the largest change."""

    over: float
    relative: float


def difference(theirs: np.ndarray, ours: np.ndarray, start: np.ndarray, double: bool) -> Difference:
    """Of two arrays that began as `start`; double: whether both were trained in float64."""
    finite = np.isfinite(theirs)
    if not finite.all():
        other = 0.0 if np.array_equal(finite, np.isfinite(ours)) else np.inf
        return Difference(other, other)
    change, scale = (float(np.abs(a).max(initial=0.0)) for a in (theirs - start, theirs))
    if double:
        rounding = REPLIED if theirs.dtype.itemsize < 8 else 1e-12
        allowed = EXACT * change + rounding * scale
    else:
        allowed = min(CLOSE * scale, max(UPDATE * change, ROUNDING * scale))
    error = float(np.abs(theirs - ours).max(initial=0.0))
    return Difference(error / (allowed or 1e-300), error / (change or scale or 1.0))
