"""`train`: one label of a run folder from where it is to its end, its state kept on the way."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import checkpoint
from ..callbacks import RunInfo
from ..config import RunConfig
from ..history import Row
from .folder import RunFolder
from .profiling import profiling

if TYPE_CHECKING:
    from ..cli.setting import Setting
    from ..simulation import Simulation

SAVE_SHARE = 0.02  # of the time: saving takes no more, however often it is asked for


@dataclass
class SaveTimes:
    """When the state is due to be saved.

    rounds   after so many rounds, None for no such number
    seconds  after so many seconds
    """

    rounds: int | None
    seconds: float

    def __post_init__(self) -> None:
        self._began = self._last = time.monotonic()
        self._count, self._pause, self._spent = 0, 0.0, 0.0

    def due(self) -> bool:
        """Whether to save now, after one more round."""
        self._count += 1
        now = time.monotonic()
        since = now - self._last
        wanted = since > self.seconds or (self.rounds is not None and self._count >= self.rounds)
        # Both: what a save costs differs from one to the next.
        within = self._spent <= SAVE_SHARE * (now - self._began)
        return wanted and since > self._pause and within

    def saved(self, began: float) -> None:
        """It was saved; that began at `began`."""
        self._last, self._count = time.monotonic(), 0
        self._spent += self._last - began
        self._pause = (self._last - began) / SAVE_SHARE


def train(
    folder: RunFolder,
    config: RunConfig,
    setting: Setting,
    label: str,
    all_figures: bool = False,
    profile: bool = False,
) -> Generator[Row, None, None]:
    """Trains what is missing of a label; yields the rows as they come.

    However it ends (the last round, an error, a signal, `close()` of the generator), the state
    after the last complete round is kept then.

    config       `folder.config`, or with fewer rounds, to go so far only
    all_figures  keep figures of rounds that were tested because an earlier end was near
    profile      keep a trace of them in the folder; see `profiling`
    Raises ValueError where the folder's state is of another run, or its rows are without a state.
    """
    from ..cli.setting import simulation

    sim = simulation(config, setting, label, folder.path)
    sim.info = RunInfo(label, folder.path, config.model_dump())
    _load(folder, label, sim, all_figures)
    folder.begin(label, sim)
    began, before, done = time.monotonic(), folder.about[label].seconds, False

    def save() -> None:
        folder.save(label, sim, before + time.monotonic() - began, done)

    times = SaveTimes(config.save_rounds, config.save_seconds)
    try:
        with (
            profiling(profile, sim, folder.path, label) as profiler,
            closing(iter(sim)) as rows,  # callbacks are told of the end here, not by a finalizer
        ):
            for row in rows:
                folder.append(label, row)
                if profiler is not None:
                    profiler.round_done()
                yield row
                if times.due():
                    at = time.monotonic()
                    save()
                    times.saved(at)
        done = True
    finally:
        save()


def _load(folder: RunFolder, label: str, sim: Simulation, all_figures: bool) -> None:
    state, done = folder.state(label), len(folder.histories[label])
    if checkpoint.exists(state):
        sim._load(state, all_figures)
    elif done:
        raise ValueError(
            f"{state}: the state after round {done} was not kept, so that {label} cannot go on to "
            f"{sim.rounds} rounds"
        )
