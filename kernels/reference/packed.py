"""`packed` in plain torch; samples are gathered by any backend."""

from __future__ import annotations

import torch
from torch import Tensor

from ..gather import gather
from ..packing import ByStep, Into, Packed, Tally, Tones


def fetch(
    samples: Tensor, labels: Tensor, packed: Packed, into: Into, tones: Tones, backend: str
) -> None:
    """Each client's next mini-batch."""
    lines = packed.lines
    rows = packed.rows.index_select(0, lines)
    moves = {
        name: None if table is None else table.index_select(0, lines)
        for name, table in (("offset", packed.offset), ("flip", packed.flip))
    }
    gather(samples, rows, out=into.x, backend=backend, **tones._asdict(), **moves)
    gather(labels, rows, out=into.y, backend=backend)
    torch.index_select(packed.count, 0, lines, out=into.count)
    if packed.seeds is not None and into.seeds is not None:
        torch.index_select(packed.seeds, 0, lines, out=into.seeds)


def advance(tally: Tally, by_step: ByStep | None) -> None:
    """The step's losses added up, and on to the next step."""
    add_losses(tally.total, tally.losses, tally.count)
    tally.lines.add_(len(tally.lines))
    tally.step.add_(1)
    if by_step is not None:
        _turn(by_step)


def _turn(by_step: ByStep) -> None:
    """Each client's numbers of its next step, where there is one."""
    places = by_step.places.add_(by_step.now.shape[1])
    going = (places < by_step.tables[0].numel()).nonzero()[:, 0]
    by_step.now[:, going] = by_step.tables.flatten(1)[:, places[going]]


def add_losses(total: Tensor, losses: Tensor, count: Tensor) -> None:
    """Add a step's losses [K] to the sums [2, K] float64: times their samples [K]; once."""
    total[0].addcmul_(losses, count)
    total[1].add_(losses)
