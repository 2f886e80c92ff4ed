"""`fedfast run` by several processes: rank 0 has the terminal and the folder, the others train."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from . import fail
from .setting import Setting, prepare, simulation

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..distributed import Ranks


def run(config: RunConfig, first: Callable[[Ranks], int]) -> int:
    """Rank 0 does `first`; the others what it says, until it is done. Returns the exit status."""
    from ..distributed import RankLost, begin

    try:
        ranks = begin()
    except (RuntimeError, ValueError, OSError) as error:
        return fail(f"rank {os.environ['RANK']}: cannot join the others: {error}", 1)
    if ranks.first:
        return _leading(ranks, first)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # rank 0 hears them too, and says when to end
    try:
        with ranks.told_of_errors():
            return _follow(ranks, config)
    except RankLost as error:
        return fail(str(error), 1) if ranks.speaks() else 1
    except (Exception, SystemExit):  # rank 0 has been told, and tells
        if os.environ.get("FEDFAST_TRACEBACK"):
            raise
        return 1


def _leading(ranks: Ranks, first: Callable[[Ranks], int]) -> int:
    from ..distributed import RankLost

    status = 1
    try:
        with ranks.told_of_errors():
            status = first(ranks)
    except RankLost as error:
        return fail(str(error), 1)
    finally:
        ranks.dismiss(status)
    return status


def _follow(ranks: Ranks, config: RunConfig) -> int:
    """Trains its part of every label that rank 0 names."""
    setting: Setting | None = None
    warnings.simplefilter("ignore")  # rank 0 warns of the same
    told = ranks.hear()
    while told[0] != "end":
        label = cast(str, told[1])
        setting = prepare(config) if setting is None else setting
        told = _train(config, setting, label)
        if told[0] == "leave":
            told = ranks.hear()
    return cast(int, told[1])


def _train(config: RunConfig, setting: Setting, label: str) -> tuple[object, ...]:
    sim = simulation(config, setting, label)
    assert sim.crew is not None
    return sim.crew.serve()
