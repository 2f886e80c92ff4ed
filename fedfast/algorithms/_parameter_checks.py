"""Checks of parameters; errors name them by the paper's symbols."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .._messages import format_value, unknown


def check(condition: bool, symbol: str, expected: str, found: object) -> None:
    """Raise ValueError naming the parameter, what was expected and what came."""
    if not condition:
        raise ValueError(f"{symbol}: expected {expected}; got {format_value(found)}")


def check_number(
    symbol: str, value: object, low: float = 0.0, high: float | None = None, above: bool = False
) -> None:
    """Raise unless `value` is a finite number in [low, high], or (low, high] with `above`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{symbol}: expected a number; got {format_value(value)}")
    if isinstance(value, int) and value.bit_length() > 1023:
        raise ValueError(f"{symbol}: expected a finite number; got {format_value(value)}")
    bracket, relation = ("(", ">") if above else ("[", ">=")
    bound = f"a finite number {relation} {low:g}"
    if high is not None:
        bound = f"a number in {bracket}{low:g}, {high:g}]"
    inside = math.isfinite(value) and (value > low if above else value >= low)
    check(inside and (high is None or value <= high), symbol, bound, value)


def check_schedule(symbol: str, value: object, low: float = 0.0) -> None:
    """Raise unless `value` is a number >= low, or a callable round -> number."""
    if not callable(value):
        check_number(symbol, value, low)


def check_count(symbol: str, value: object, low: int = 0) -> None:
    """Raise unless `value` is an integer >= low."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{symbol}: expected an integer; got {format_value(value)}")
    check(value >= low, symbol, f"an integer >= {low}", value)


def check_word(symbol: str, value: object, known: Sequence[str]) -> None:
    """Raise unless `value` is one of the known words."""
    if not isinstance(value, str) or value not in known:
        raise unknown(symbol, value, known)


def check_flag(symbol: str, value: object) -> None:
    """Raise unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{symbol}: expected True or False; got {format_value(value)}")
