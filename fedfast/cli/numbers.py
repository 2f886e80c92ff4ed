"""Numbers that flags give, read with errors of one line."""

from __future__ import annotations

MOST = 10**8


def words(flag: str, text: str) -> list[str]:
    """The values of `a,b`. Raises ValueError naming the flag for empty ones, or one twice."""
    found = [word.strip() for word in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise ValueError(f"{flag}: expected different values with commas between, found {text!r}")
    return found


def numbers(flag: str, text: str) -> list[int]:
    """Whole numbers with commas between; see `number`."""
    return [number(flag, word, 1) for word in words(flag, text)]


def number(flag: str, text: str, least: int) -> int:
    """A whole number, also as 1e6. Raises ValueError naming the flag."""
    value = _float(flag, text)
    if value != int(value) or not least <= value <= MOST:
        raise ValueError(f"{flag}: expected a whole number from {least} to 10^8, found {text!r}")
    return int(value)


def positive(flag: str, text: str) -> float:
    """A number above 0. Raises ValueError naming the flag."""
    value = _float(flag, text)
    if not 0 < value < float("inf"):
        raise ValueError(f"{flag}: expected a number above 0, found {text!r}")
    return value


def _float(flag: str, text: str) -> float:
    try:
        value = float(text)
        return value if abs(value) < float("inf") else -0.5  # no whole number, nor above 0
    except ValueError:
        raise ValueError(f"{flag}: expected a number, found {text!r}") from None
