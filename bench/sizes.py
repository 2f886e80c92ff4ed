"""Sizes of a benchmark: in full, or the smallest ones of `pytest bench --smoke`."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")
SMOKE = False  # set by conftest.py before any benchmark is imported


def pick(full: T, smoke: T) -> T:
    """`full`, or `smoke` where benchmarks are only tried out and nothing is timed."""
    return smoke if SMOKE else full
