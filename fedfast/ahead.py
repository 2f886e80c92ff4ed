"""The next chunk's batches, or the next round's first, drawn by a thread while this chunk trains.

What is drawn is a function of (seed, round, client) and of where the samples lie: a chunk that is
asked for otherwise than expected (a state was loaded, memory ran out, a callback moved samples) is
drawn anew, and what was prepared is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from .client_sampling import Round
from .kernels import schedule as draws
from .random import Ints
from .round_lines import LineBatches
from .rounds_once import RoundsOnce

WORTH = 8192  # samples of a chunk: drawing fewer takes less than handing them over does


class Taker(Protocol):
    """Who takes batches from an `Ahead`, if it has one."""

    ahead: Ahead | None

    def drawing(self, plan: Round, chosen: Ints) -> LineBatches:
        """The batches of a chunk, still to be drawn."""

    def written(self) -> tuple[int, ...]:
        """How often the tensors that draws read were written to."""


@dataclass(frozen=True)
class Prepared:
    """A chunk that the thread was given; written: see `Taker`."""

    place: tuple[int, int]
    chosen: Ints
    written: tuple[int, ...]
    batches: LineBatches


class Ahead:
    """One thread, from the first chunk on until `close`.

    rehearses  whether every round has a first exchange
    """

    def __init__(self, rounds: RoundsOnce, taker: Taker, rehearses: bool) -> None:
        self.rounds, self.taker, self.rehearses = rounds, taker, rehearses
        self._worker, self._held = draws.Worker(), list[Prepared]()

    def take(self, plan: Round, chosen: Ints) -> LineBatches | None:
        """The batches of the clients at `chosen`, drawn; None where they were not expected."""
        if not self._held:
            return None
        held, self._held = self._held, []
        for each in held:
            same = each.place == plan.place and np.array_equal(each.chosen, chosen)
            if same and each.written == self.taker.written() and each.batches.draw is not None:
                self._worker.finish(each.batches.draw)
                return replace(each.batches, draw=None)
        return None

    def prepare(self, plan: Round, chosen: Ints, chunk: int) -> None:
        """Have what follows the clients at `chosen` drawn, of `chunk` clients at most.

        It raises nothing: the round that it is for will.
        """
        try:
            following = self._following(plan, chosen, chunk)
            if following is not None:
                self._start(*following)
        except Exception:
            self._held = []

    def close(self) -> None:
        """End the thread."""
        self._held = []
        self._worker.stop()

    def _start(self, plan: Round, chosen: Ints) -> None:
        made = self.taker.drawing(plan, chosen)
        if plan.place is not None and made.draw is not None:
            self._worker.start(made.draw)
            self._held = [Prepared(plan.place, chosen, self.taker.written(), made)]

    def _following(self, plan: Round, chosen: Ints, chunk: int) -> tuple[Round, Ints] | None:
        """(round, positions) of the chunk after this one."""
        if plan.place is None:
            return None
        order = np.argsort(-plan.steps, kind="stable")
        (begin,) = np.flatnonzero(order == chosen[0])
        end = int(begin) + len(chosen)
        if end < len(order):
            return plan, order[end : end + chunk]
        t, exchange = plan.place
        t, exchange = (t, 0) if exchange else (t + 1, int(self.rehearses))
        if t == self.rounds.schedule.rounds:
            return None
        plan = self.rounds.round(t, exchange)
        return plan, np.argsort(-plan.steps, kind="stable")[:chunk]


@contextmanager
def preparing(rounds: RoundsOnce, taker: Taker, rehearses: bool) -> Iterator[None]:
    """Inside, `taker` has an `Ahead`, if the rounds are drawn by the compiled module."""
    if not (rounds.schedule.drawn and draws.available()):
        yield
        return
    taker.ahead = ahead = Ahead(rounds, taker, rehearses)
    try:
        yield
    finally:
        if taker.ahead is ahead:
            taker.ahead = None
        ahead.close()
