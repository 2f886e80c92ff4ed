"""Draws of a round by the compiled module; where it is missing, by `random.py`: the same bits."""

from __future__ import annotations

import torch

from . import random
from .kernels import schedule
from .random import Ints
from .round_lines import LineBatches, Owned


def choose(seed: int, round: int, eligible: Ints, m: int) -> Ints:
    """See `random.choose`; costs O(m) up to m = N/2, O(N) above."""
    if not schedule.available():
        return random.choose(seed, round, eligible, m)
    out = torch.empty(m, dtype=torch.int64)
    schedule.cohort(seed, round, torch.from_numpy(eligible), out).run()
    found: Ints = out.numpy()
    return found


def toss(seed: int, round: int, eligible: Ints, chance: float, most: int) -> Ints:
    """See `random.toss`; the first `most` at most."""
    if not schedule.available():
        return random.toss(seed, round, eligible, chance)[:most]
    out = torch.empty(most, dtype=torch.int64)
    draw = schedule.cohort(seed, round, torch.from_numpy(eligible), out, chance)
    draw.run()
    found: Ints = out[: draw.count()].numpy()
    return found


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
    random.check_words("client", who[0])
    index = torch.empty(lines.total, lines.width, dtype=torch.int64)
    count = torch.empty(lines.total, dtype=torch.int32)
    clients, sizes, epochs = (torch.from_numpy(part) for part in who)
    (seed, key), (batch, whole) = streams, cut
    first, order = (None, None) if owned is None else (owned.first, owned.order)
    own, where = (clients, sizes, epochs), dict(first=first, order=order)
    draw = schedule.batches(seed, key, lines, *own, index, count, batch=batch, whole=whole, **where)
    return LineBatches(index, count, draw)
