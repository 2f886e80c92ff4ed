"""Numbers of bytes for people: units of 1000."""

from __future__ import annotations

UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def size(count: float) -> str:
    """Bytes with three digits: `1.23 MB`.

    >>> size(999), size(12_345), size(999_999_999)
    ('999 B', '12.3 kB', '1 GB')
    """
    power = 0
    while count >= 999.5 and power < len(UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {UNITS[power]}"
