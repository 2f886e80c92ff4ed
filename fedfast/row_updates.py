"""Operations on clients' rows as parts of a plan that executors repeat (`executor.RowUpdate`)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import kernels
from .algorithms.row_calls import RecordedAscent
from .executor import RowUpdate


@dataclass(frozen=True)
class RowUpdates:
    """One after another."""

    parts: Sequence[RowUpdate]

    @property
    def key(self) -> tuple[Hashable, ...]:
        """See `RowUpdate`."""
        return tuple(number for part in self.parts for number in part.key)

    def apply(self, backend: str) -> None:
        """Do all of them."""
        for part in self.parts:
            part.apply(backend)


def all_of(*parts: RowUpdate | None) -> RowUpdates | None:
    """Those that are given; None of none."""
    given = [part for part in parts if part is not None]
    return RowUpdates(given) if given else None


@dataclass(frozen=True)
class PlannedAscent:
    """See `RecordedAscent`."""

    first: RowUpdates
    later: RowUpdates
    begin: Sequence[RowUpdate]
    end: Sequence[RowUpdate]


@dataclass(frozen=True)
class Turned:
    """The coefficients of the step at hand: `now[j] = tables[j][step]`. Plans alone have steps.

    tables  [J, T], now [J, K]
    """

    tables: Tensor
    now: Tensor

    @property
    def key(self) -> tuple[Hashable, ...]:
        """See `RowUpdate`."""
        return "turned", self.tables.data_ptr(), *self.tables.shape, self.now.data_ptr()

    def apply(self, backend: str) -> None:
        """Write them."""
        for table, now in zip(self.tables, self.now, strict=True):
            kernels.turn(table, now)


class StepCoefficients:
    """Memory for coefficients that differ from step to step, so that one plan serves all steps."""

    def __init__(self, like: Tensor) -> None:
        """like  [K], of the rows' dtype"""
        self._like = like
        self._tables, self._now = like.new_zeros(0, 0), like.new_zeros(0, len(like))

    def placed(self, recorded: RecordedAscent, clients: int) -> PlannedAscent:
        """The same calls with `StepNumbers` read from where each step finds its own."""
        calls = [call for part in (recorded.first, recorded.later) for call in part]
        found = list(dict.fromkeys(n for call in calls for n in call.step_numbers()))
        if found:
            self._hold(len(found), len(found[0].values))
        tables = self._tables[: len(found)]
        for row, numbers in zip(tables, found, strict=True):
            row[: len(numbers.values)] = torch.tensor(numbers.values, dtype=torch.float64)
        now = dict(zip(found, self._now[:, :clients], strict=False))
        turned = [Turned(tables, self._now[: len(found), :clients])] if found else []
        first, later = (
            RowUpdates([*turned, *(call.with_numbers(now) for call in part)])
            for part in (recorded.first, recorded.later)
        )
        return PlannedAscent(first, later, recorded.begin, recorded.end)

    def _hold(self, count: int, steps: int) -> None:
        held, longest = self._tables.shape
        if count > held or steps > longest:
            self._tables = self._like.new_zeros(max(count, held), max(2 * steps, longest))
            self._now = self._like.new_zeros(len(self._tables), len(self._like))
