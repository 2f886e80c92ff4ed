"""Draws of a round by the compiled module; where it is missing, by `random.py`: the same bits."""

from __future__ import annotations

from functools import partial

from . import random
from .kernels import schedule
from .random import Ints
from .round_lines import LineBatches, Owned


def choose(seed: int, round: int, eligible: Ints, m: int) -> Ints:
    """See `random.choose`; costs O(m) up to m = N/2, O(N) above."""
    choosing = schedule.chosen if schedule.available() else random.choose
    return choosing(seed, round, eligible, m)


def toss(seed: int, round: int, eligible: Ints, chance: float, most: int) -> Ints:
    """See `random.toss`; the first `most` at most."""
    if schedule.available():
        return schedule.tossed(seed, round, eligible, chance, most)
    return random.toss(seed, round, eligible, chance)[:most]


def batches(
    streams: tuple[int, int],
    who: tuple[Ints, Ints, Ints],
    lines: schedule.Lines,
    cut: tuple[int, bool],
    owned: Owned | None = None,
) -> LineBatches:
    """Fresh permutations cut into batches, still to be drawn: see `kernels.schedule.batches`.

    streams  (seed, key of the round)
    who      (ids, samples, epochs) of the clients [K], int64 each
    cut      (samples of a batch, whether narrower ones are left out)
    owned    where their samples lie: the index is of the data's rows then
    Raises ValueError for ids that are no words.
    """
    drawing = partial(schedule.batches, *streams, lines, *who, batch=cut[0], whole=cut[1])
    if owned is not None:
        where = dict(begins=owned.begins, order=owned.order)
        drawing = partial(drawing, owners=owned.owners, **where)
    draw, index, count = drawing()
    return LineBatches(index, count, draw)
