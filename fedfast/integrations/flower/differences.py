"""How far two trainings of one client are apart."""

from __future__ import annotations

import numpy as np

CLOSE = 1e-5  # of the largest number of an array
UPDATE = 1e-2  # of the largest change of an array: a wrong learning rate shows at any scale
ROUNDING = 1e-6  # of the largest number: changes below it are rounding
EXACT = 1e-5  # of the largest change of an array, in float64: there a forgotten weight decay shows
REPLIED = 2e-7  # of the largest number: a float64 training's arrays that a function makes float32


def error32(theirs: np.ndarray, ours: np.ndarray, start: np.ndarray) -> float:
    """The largest difference over the largest number, >= 1 where the change is another."""
    scale = float(np.abs(theirs).max(initial=0.0)) or 1.0
    if not np.isfinite(theirs).all():
        return 0.0 if np.array_equal(np.isfinite(theirs), np.isfinite(ours)) else 1.0
    error = float(np.abs(theirs - ours).max(initial=0.0))
    change = float(np.abs(theirs - start).max(initial=0.0))
    if error > max(UPDATE * change, ROUNDING * scale):
        return 1.0
    return error / scale


def error64(theirs: np.ndarray, ours: np.ndarray, start: np.ndarray) -> float:
    """The largest difference of float64 trainings, over what is allowed."""
    finite = np.isfinite(theirs)
    if not finite.all():
        return 0.0 if np.array_equal(finite, np.isfinite(ours)) else np.inf
    change, scale = (float(np.abs(a).max(initial=0.0)) for a in (theirs - start, theirs))
    rounding = REPLIED if theirs.dtype.itemsize < 8 else 1e-12
    allowed = EXACT * change + rounding * scale
    return float(np.abs(theirs - ours).max(initial=0.0)) / (allowed or 1e-300)
