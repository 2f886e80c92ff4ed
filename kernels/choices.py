"""Which products a library forms in the place of Triton: a table of rows, `choices.csv`.

A row names a device and the versions of the libraries there, a layer's shape for one client, what
float32 products may be rounded to, and one of the layer's three parts: `forward`, `data` (the
gradient of its input), `weight` (that of its weight and bias). For these it has a candidate
(`library/candidates.py`), the numbers of clients K for which a client's bits were found to be those
of the client alone, and how many times as long Triton took, at the least of the measured K.

K is no part of the key: bits must not depend on it. Libraries of other versions may choose other
algorithms: the row does not hold for them. Whatever has no row is Triton's.
`bench/gpu.py --sections choices` measures candidates and writes rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

PARTS = ("forward", "data", "weight")
PRECISIONS = ("fp32", "tf32x3", "tf32", "fp64")  # libraries form "tf32x3" in float32
TRITON = "triton"
Sides = tuple[int, ...]


@dataclass(frozen=True)
class Shape:
    """A layer of one client; one without windows is dense.

    inputs   (I,), or (C, H, W)
    taps, stride, padding, dilation   (vertical, horizontal)
    pool     the window of the pooling behind it, () for none
    """

    batch: int
    inputs: Sides
    outputs: int
    taps: Sides = ()
    stride: Sides = ()
    padding: Sides = ()
    dilation: Sides = ()
    groups: int = 1
    pool: Sides = ()

    @property
    def operation(self) -> str:
        """That has its forward pass."""
        return "linear" if not self.taps else "conv_pool" if self.pool else "conv"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    verified  the K of the trials; gain: how many times as fast as Triton
    """

    device: str
    libraries: str
    precision: str
    part: str
    shape: Shape
    candidate: str
    verified: Sides = ()
    gain: float = 1.0

    @property
    def key(self) -> tuple[object, ...]:
        """What no two rows share."""
        return self.device, self.libraries, self.precision, self.part, self.shape


@dataclass(frozen=True)
class Choice:
    """Names of the backends of a layer's parts; "" is the run's."""

    forward: str = ""
    data: str = ""
    weight: str = ""

    def __str__(self) -> str:
        """As `fedfast doctor` prints it."""
        return ", ".join(f"{part} {getattr(self, part) or TRITON}" for part in PARTS)


class Table:
    """Rows by what they are for. Raises ValueError for two with one key."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows: dict[tuple[object, ...], Row] = {}
        for row in rows:
            if row.key in self._rows:
                raise ValueError(f"choices: expected one row for each key; got two of {row.key}")
            self._rows[row.key] = row

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def choice(self, machine: tuple[str, str], precision: str, shape: Shape) -> Choice:
        """Of a layer; machine: see `registry.machine`."""
        found = {}
        for part in PARTS:
            row = self._rows.get((*machine, precision, part, shape))
            found[part] = "" if row is None or row.candidate == TRITON else row.candidate
        return Choice(**found)

    def joined(self, rows: Iterable[Row]) -> Table:
        """With these rows, in the place of those with their keys."""
        return Table((self._rows | {row.key: row for row in rows}).values())


def precision_of(precision: str, dtype: torch.dtype) -> str:
    """As the table spells it."""
    return "fp64" if dtype == torch.float64 else precision
