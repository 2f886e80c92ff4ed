"""A round's batches as lines of B samples, in one of two layouts: see `kernels.schedule.Lines`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .batches import Packing
from .kernels.schedule import Draw, Lines
from .random import Ints


@dataclass(frozen=True)
class Owned:
    """Where K clients' samples lie on the CPU: sample i of client k is row order[first[k] + i],
    with first[k] = begins[owners[k]].

    owners [K], begins [N + 1], order [m], int64
    """

    owners: Ints
    begins: Tensor
    order: Tensor

    @property
    def first(self) -> Ints:
        """[K]"""
        found: Ints = self.begins.numpy()[self.owners]
        return found


@dataclass(frozen=True)
class LineBatches:
    """Batches of K clients, made or still to be drawn.

    index  int64 [lines, B], count int32 [lines]
    draw   what writes them; None: they are written
    packing  where each client's are, of packed ones
    """

    index: Tensor
    count: Tensor
    draw: Draw | None = None
    packing: Packing | None = None

    def made(self) -> tuple[Tensor, Tensor]:
        """(index, count), drawn now if they are not yet."""
        if self.draw is not None:
            self.draw.run()
        return self.index, self.count


def packed_lines(clients: int, packing: Packing, width: int) -> Lines:
    """The lines of so many clients, step by step."""
    return Lines(clients, packing.offsets.shape[0] - 1, width, packing.offsets)


def placed(
    lines: Lines, steps: Ints, flat: Ints, sizes: Ints, owned: Owned | None = None
) -> LineBatches:
    """Batches that are known, put into their lines.

    flat   samples of all batches, of the first client's first step first
    sizes  [n], how many of them each batch has: client by client
    """
    index = np.zeros((lines.total, lines.width), dtype=np.int64)
    count = np.zeros(lines.total, dtype=np.int32)
    client = np.repeat(np.arange(steps.size), steps)
    step = _within(steps)
    if lines.offsets is None:
        line = client * lines.steps + step
    else:
        line = lines.offsets.numpy()[step] + client
    count[line] = sizes
    index[np.repeat(line, sizes), _within(sizes)] = flat
    if owned is None:
        return LineBatches(torch.from_numpy(index), torch.from_numpy(count))
    first = owned.first
    base = np.repeat(first[:, None], lines.steps, 1).reshape(-1)  # dense lines without a step too
    if lines.offsets is not None:
        base = np.empty(lines.total, dtype=np.int64)
        base[line] = first[client]
    rows = owned.order[torch.from_numpy(base[:, None] + index)]
    return LineBatches(rows, torch.from_numpy(count))


def _within(counts: Ints) -> Ints:
    """0, 1, …, counts[0] - 1, then the same of the next: [sum]"""
    ends = counts.cumsum()
    found: Ints = np.arange(ends[-1] if ends.size else 0) - np.repeat(ends - counts, counts)
    return found
