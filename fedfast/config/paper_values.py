"""Values of published tables, as pydantic's validators: they return what they are given."""

import re

from pydantic_core import PydanticCustomError

DIVERGED, NEVER = "X", "–"  # as papers print them: did not converge; no value, or never reached
SUMMARY = re.compile(r"last|best|sum|(?:mean|round)-[1-9]\d*")


def summary(value: object) -> object:
    """How a number follows from a run's rounds, see `report.summaries.number`."""
    if not isinstance(value, str) or not SUMMARY.fullmatch(value):
        message = "Input should be last, best, sum, mean-N or round-N"
        raise PydanticCustomError("summary", message)
    return value


def _numbers(value: object) -> bool:
    """Whether it is a list of two numbers."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    )


def published(value: object) -> object:
    """A number, or [number, its standard deviation], or null, or a mark."""
    pair = value if isinstance(value, list) else [value, 0.0]
    if value not in (None, DIVERGED, NEVER) and not _numbers(pair):
        message = f"Input should be a number, [number, std], null, {DIVERGED} or {NEVER}"
        raise PydanticCustomError("pair", message)
    return value


def mark(value: object) -> str:
    """What is printed instead of a number, ""."""
    return value if isinstance(value, str) else ""


def eigenvalue(value: object) -> object:
    """A number, or a list of one or more, or null, or a mark."""
    found = value if isinstance(value, list) and value else [value]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in found)
    if value not in (None, DIVERGED, NEVER) and not numbers:
        message = f"Input should be a number, a list of numbers, null, {DIVERGED} or {NEVER}"
        raise PydanticCustomError("eigenvalues", message)
    return value


def cost(value: object) -> object:
    """[rounds, bytes], or null, or a mark."""
    if value not in (None, DIVERGED, NEVER) and not _numbers(value):
        message = f"Input should be [rounds, bytes], null, {DIVERGED} or {NEVER}"
        raise PydanticCustomError("cost", message)
    return value
