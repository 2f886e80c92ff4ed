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


def binary_size(count: float) -> str:
    """Bytes of memory, in units of 1024: `812 B`, `1.2 MiB`, `3.4 GiB`.

    >>> binary_size(1023), binary_size(1_572_864)
    ('1.02e+03 B', '1.5 MiB')
    """
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.3g} {unit}"
