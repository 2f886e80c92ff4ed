"""Numbers that hooks compute for a chunk or for its steps, where recorded steps read them.

A hook's numbers of all steps are computed before the first one (`Clients.by_step`), as tables; the
last launch of a step puts those of the next one where they are read (`kernels.advance`). Numbers
that all steps share (`Clients.by_chunk`) are written there at once. Either are in the rows' dtype,
which kernels read: they round once, as numbers do that kernels are given in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from .algorithms.client_view import Clients, NumberHook, numbers_of
from .held_tensors import RoundNumbers
from .kernels.packing import ByStep
from .lr_schedules import Schedulable


class HookNumbers:
    """Of up to as many clients as `losses` [K] has, whose dtype is the rows'.

    step   of the chunk, which is under way or comes next
    moved  whether memory was made since whoever reads this last set it to False
    A hook's numbers are known once they were asked for, in a step that was not being recorded.
    """

    def __init__(self, losses: Tensor) -> None:
        self.step, self.moved = 0, False
        self._like, self._schedules = losses, RoundNumbers(losses)
        self._of_steps: dict[NumberHook, slice] = {}
        self._of_chunks: dict[NumberHook, tuple[Tensor, ...]] = {}
        self._tables = losses.new_zeros(0, 0, len(losses))
        self._now = losses.new_zeros(0, len(losses))
        self._columns = torch.arange(len(losses), device=losses.device)
        self._places = self._columns.clone()
        self._steps = losses.new_zeros(0, 1, dtype=torch.float64)  # 0, 1, ... of the longest chunk
        self._length = 0

    def begin(self, at: Clients, steps: int) -> None:
        """A chunk of so many steps, as recorded steps see it."""
        self.step, self._length = 0, steps
        self._schedules.renew(at.round)
        for numbers, held in self._of_chunks.items():
            _write([part[: len(at)] for part in held], numbers_of(numbers, at))
        if steps > len(self._steps):
            self._lengthen(2 * steps)
        if self._of_steps:
            for numbers, rows in self._of_steps.items():
                self._tabulate(numbers, rows, at)
            self._now.copy_(self._tables[:, 0])
            self._places.copy_(self._columns)

    def of(self, schedule: Schedulable, wide: bool) -> Tensor:
        """See `RoundNumbers`."""
        return self._schedules.of(schedule, wide)

    def by_step(self, numbers: NumberHook, at: Clients) -> list[Tensor]:
        """Those of the step at hand of the clients `at`, each [K] or more."""
        if numbers not in self._of_steps:
            self._add(numbers, at)
        return list(self._now[self._of_steps[numbers]])

    def by_chunk(self, numbers: NumberHook, at: Clients) -> Sequence[Tensor]:
        """Those of the chunk at hand, each [K, ...] or more."""
        if numbers not in self._of_chunks:
            found, room = numbers_of(numbers, at), len(self._like)
            shapes = [x.shape[1:] if isinstance(x, Tensor) else () for x in found]
            held = tuple(self._like.new_zeros(room, *shape) for shape in shapes)
            _write([part[: len(at)] for part in held], found)
            self._of_chunks[numbers], self.moved = held, True
        return self._of_chunks[numbers]

    def turned(self, clients: int) -> ByStep | None:
        """What `kernels.advance` moves on for the first clients."""
        if not self._of_steps:
            return None
        return ByStep(self._tables, self._now, self._places[:clients])

    def _add(self, numbers: NumberHook, at: Clients) -> None:
        """Tables for new numbers, in the middle of a chunk; who is not in `at` is done with it."""
        first, many = len(self._now), len(numbers_of(numbers, at))
        more = self._tables.new_zeros(many, *self._tables.shape[1:])
        self._tables = torch.cat([self._tables, more])
        self._now = torch.cat([self._now, more.new_zeros(many, len(self._like))])
        self._of_steps[numbers] = rows = slice(first, first + many)
        self._tabulate(numbers, rows, at)
        self._now[rows] = self._tables[rows, self.step]
        self._places.copy_(self._columns + self.step * len(self._like))
        self.moved = True

    def _tabulate(self, numbers: NumberHook, rows: slice, at: Clients) -> None:
        """Those of all steps of the chunk."""
        every = replace(at, step=cast("int", self._steps[: self._length]))
        to = list(self._tables[rows, : self._length, : len(at)])
        _write(to, numbers_of(numbers, every))

    def _lengthen(self, steps: int) -> None:
        counted = torch.arange(steps, device=self._like.device)
        self._steps = counted.to(torch.float64)[:, None]
        self._tables = self._like.new_zeros(len(self._now), steps, len(self._like))
        self.moved = self.moved or bool(self._of_steps)


def _write(to: Sequence[Tensor], numbers: Sequence[float | Tensor]) -> None:
    for part, value in zip(to, numbers, strict=True):
        part.copy_(value) if isinstance(value, Tensor) else part.fill_(value)
