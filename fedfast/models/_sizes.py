"""What models ask of their options: whole sizes, and weights that fit into memory."""

from __future__ import annotations

from collections.abc import Sequence

from .._messages import format_value
from ..data.size_limits import check_room

LARGEST = (1 << 31) - 1  # of one width: torch's kernels count in 32 bits


def size(name: str, value: object) -> int:
    """An integer in [1, 2^31). TypeError/ValueError with `name` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer; got {format_value(value)}")
    if not 1 <= value <= LARGEST:
        bound = "at least 1" if value < 1 else f"at most {LARGEST}"
        raise ValueError(f"{name}: expected {bound}; got {format_value(value)}")
    return value


def sizes(name: str, value: object, count: int | None = None) -> tuple[int, ...]:
    """A sequence of integers >= 1, `count` of them (None: any number)."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name}: expected a sequence of integers; got {format_value(value)}")
    if count is not None and len(value) != count:
        raise ValueError(f"{name}: expected {count} integers; got {format_value(value)}")
    return tuple(size(name, item) for item in value)


def check_weights(name: str, rows: int, columns: int) -> None:
    """ValueError unless a float32 matrix of that shape fits into memory."""
    check_room(f"{name}: weights of {rows} x {columns}", 4 * rows * columns)
