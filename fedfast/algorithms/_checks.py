"""Parameter checks that speak the paper's symbols."""

from __future__ import annotations

import math


def check(condition: bool, symbol: str, expected: str, found: object) -> None:
    """Raise ValueError naming the parameter, what was expected and what came."""
    if not condition:
        raise ValueError(f"{symbol}: expected {expected}; got {found!r}")


def check_number(symbol: str, value: object, low: float = 0.0, high: float | None = None) -> None:
    """Raise unless `value` is a finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{symbol}: expected a number; got {value!r}")
    bound = f"a finite number >= {low:g}" if high is None else f"a number in [{low:g}, {high:g}]"
    inside = math.isfinite(value) and value >= low and (high is None or value <= high)
    check(inside, symbol, bound, value)
