"""Limits of y-axes: the end of training is seen, and no curve is hidden wholly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bands import Band

PAD = 0.06  # of the range, above and below
LATE = 0.2  # the share of the rounds that the second panel shows
ENOUGH = 6  # points that a curve has in it, or there is no second panel

Limits = tuple[float, float]


def late_start(bands: Sequence[Band]) -> float | None:
    """From which round on the last 20 % are; None where that is next to nothing."""
    start = max((float(b.rounds[-1]) for b in bands if len(b)), default=0.0) * (1 - LATE)
    return start if any(len(b.after(start)) >= ENOUGH for b in bands) else None


def loss_top(bands: Sequence[Band]) -> float:
    """The largest loss to show: of a run that diverges no more than three times any first loss."""
    first = max(float(b.mean[0]) for b in bands if len(b))
    return min(max(float(b.mean.max()) for b in bands if len(b)), 3 * first)


def late_limits(bands: Sequence[Band]) -> tuple[Limits, list[int]]:
    """(low, high) of the late parts of curves, and which curves lie outside.

    A curve lies outside where it is so far from the middle one that the others would be pressed
    into a line: more than six times the median distance, and more than the range of any curve.
    """
    here = [i for i, b in enumerate(bands) if len(b)]
    middles = np.array([np.median(bands[i].mean) for i in here])
    spans = [np.ptp(bands[i].mean) + 2 * _width(bands[i]) for i in here]
    away = np.abs(middles - np.median(middles))
    bound = max(6 * float(np.median(away)), 2 * float(np.median(spans)))
    kept = [i for i, far in zip(here, away, strict=True) if far <= bound] or here
    low = min(float(bands[i].mean.min()) - _width(bands[i]) for i in kept)
    high = max(float(bands[i].mean.max()) + _width(bands[i]) for i in kept)
    return padded(low, high), [i for i in range(len(bands)) if i not in kept]


def padded(low: float, high: float) -> Limits:
    """With some room; of a single value a hundredth of it on either side."""
    room = PAD * (high - low) or 0.01 * abs(high) or 0.01
    return low - room, high + room


def _width(band: Band) -> float:
    """The typical half width of the band, 0 without one."""
    known = band.std[np.isfinite(band.std)]
    return float(np.median(known)) if len(known) else 0.0
