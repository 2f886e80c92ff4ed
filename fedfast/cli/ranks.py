"""`fedfast run` by several processes: rank 0 has the terminal and the folder, the others train."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from . import fail
from .setting import Setting, prepare, simulation

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..distributed import RankLost, Ranks
    from ..simulation import Simulation


def run(config: RunConfig, first: Callable[[Ranks], int]) -> int:
    """Rank 0 does `first`; the others what it says, until it is done. Returns the exit status."""
    from ..distributed import RankLost, begin

    try:
        ranks = begin()
        others = ranks.gathered(config.model_dump(mode="json"))
    except (RankLost, RuntimeError, ValueError, OSError) as error:
        return fail(f"rank {os.environ['RANK']}: cannot join the others: {error}", 1)
    if any(other != others[0] for other in others):
        return fail(_differ(others)) if ranks.first else 2
    if ranks.first:
        return _leading(ranks, first)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # rank 0 hears them too, and says when to end
    return _following(ranks, config)


def _differ(configs: Sequence[Mapping[str, object]]) -> str:
    """Which rank was given another config, and where it differs."""
    rank = next(i for i, config in enumerate(configs) if config != configs[0])
    name = next(n for n, value in configs[rank].items() if value != configs[0][n])
    return (
        f"rank {rank}: expected the config of rank 0, {name} {configs[0][name]}; got {name} "
        f"{configs[rank][name]}"
    )


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


def _following(ranks: Ranks, config: RunConfig) -> int:
    from ..distributed import RankLost

    work = _Work(ranks, config)
    try:
        with ranks.told_of_errors():
            return work.follow()
    except RankLost as error:
        return fail(work.rescued(error), 1) if ranks.outlives() else 1
    except (Exception, SystemExit):  # rank 0 has been told, and tells
        if os.environ.get("FEDFAST_TRACEBACK"):
            raise
        return 1


class _Work:
    """What a rank but the first does: its part of every label that rank 0 names."""

    def __init__(self, ranks: Ranks, config: RunConfig) -> None:
        self.ranks, self.config = ranks, config
        self.setting: Setting | None = None
        self.sim: Simulation | None = None  # under way, of this label in this folder
        self.label = self.folder = ""

    def follow(self) -> int:
        """Until rank 0 ends; returns the exit status."""
        warnings.simplefilter("ignore")  # rank 0 warns of the same
        told = self.ranks.hear()
        while told[0] != "end":
            self.label, self.folder = cast("tuple[str, str]", told[1:])
            self.setting = prepare(self.config) if self.setting is None else self.setting
            self.sim = simulation(self.config, self.setting, self.label)
            assert self.sim.crew is not None
            told = self.sim.crew.serve()
            self.sim = None
            if told[0] == "leave":
                told = self.ranks.hear()
        return cast(int, told[1])

    def rescued(self, error: RankLost) -> str:
        """Keep the last complete round where rank 0 has not; returns what to tell people."""
        from ..runs import open_folder

        sim = self.sim
        if sim is None or sim.crew is None or not sim.round:
            return str(error)
        sim.crew.alone = True
        text = f"failed in {self.label} after round {sim.round} of {sim.rounds}: {error}; "
        try:
            with open_folder(self.folder, self.config, mode="resume") as folder:
                if len(folder.histories[self.label]) < sim.round:
                    folder.take(self.label, sim)
                return text + folder.goes_on(self.label)
        except (RankLost, ValueError, OSError) as other:
            return f"{text}cannot keep it: {other}"
