"""What packed mini-batches are read from and written to, see `packed.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Batches of K clients, step after step.

    rows    [n, B] int64, samples of the data set; count [n] int32, how many of a line's are real
    lines   [K] int64, the line that each client takes next
    offset  [n, B, 2] int32 (y, x), flip [n, B] bool: how images are moved, or None
    seeds   [n] int64 of random layers, or None
    """

    rows: Tensor
    count: Tensor
    lines: Tensor
    offset: Tensor | None = None
    flip: Tensor | None = None
    seeds: Tensor | None = None


@dataclass(frozen=True)
class Into:
    """What receives a mini-batch: x [K, B, ...] and y [K, B], each client's part contiguous; count
    [K] int32 and, where there are seeds, seeds [K] int64."""

    x: Tensor
    y: Tensor
    count: Tensor
    seeds: Tensor | None = None


class Tones(NamedTuple):
    """How bytes become numbers, [C] each; see `gather`."""

    scale: Tensor | None = None
    shift: Tensor | None = None
    margin: Tensor | None = None


@dataclass(frozen=True)
class Tally:
    """What is counted in a step of K clients.

    losses  [K] mean losses; count [K] int32, of how many samples
    total   [2, K] float64, the sums so far: times their samples; once
    lines   [K] int64, see `Packed`; step [] int64
    """

    losses: Tensor
    count: Tensor
    total: Tensor
    lines: Tensor
    step: Tensor


@dataclass(frozen=True)
class ByStep:
    """J numbers of each of K clients, which differ from step to step.

    tables  [J, T, n], of every step; n >= K
    now     [J, n], of the step at hand; of the tables' dtype, both contiguous
    places  [K] int64, where in a table a client's number of the step at hand is: `step n + client`
    """

    tables: Tensor
    now: Tensor
    places: Tensor
