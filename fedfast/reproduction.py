"""Rows of a paper's table, run and kept: every (config, label, seed) is a run folder of its own.

The state of a row is removed once the paper's own rounds are done; its rows and model stay. Rows
that versions before 0.2 kept are gone on with and reported alike.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .history import History, Row

if TYPE_CHECKING:
    from .cli.setting import Setting
    from .config import RunConfig
    from .runs import RunFolder
    from .runs.about import About


@dataclass(frozen=True)
class TableRow:
    """One label of a paper's config under one seed.

    name    of the config file, for people
    config  with this seed and label; `rounds` as the paper has them
    rounds  how many of these to run now
    """

    name: str
    config: RunConfig
    label: str
    rounds: int
    folder: Path

    def history(self) -> History:
        """The rounds done so far. Raises ValueError naming the file where it is damaged."""
        from . import runs

        return runs.read(self.folder, self.label)[0]

    def about(self) -> About:
        """What it ran on, and for how long. Raises ValueError naming the file likewise."""
        from . import runs

        return runs.read(self.folder, self.label)[1]


def rows(
    path: Path, config: RunConfig, seeds: Sequence[int], rounds: int | None, out: Path
) -> list[TableRow]:
    """All rows of one config, seed by seed; at most `rounds` of the paper's rounds.

    Raises ValueError where the config names no paper.
    """
    if config.paper is None:
        raise ValueError(f"{path}: expected a config with a section `paper`, found none")
    until = config.rounds if rounds is None else min(rounds, config.rounds)
    made = []
    for seed in seeds or config.paper.seeds:
        for label in config.algorithms:
            folder = out / path.parent.name / path.stem / label / f"seed-{seed}"
            made.append(TableRow(path.stem, config.alone(label, seed), label, until, folder))
    return made


@contextmanager
def claimed(row: TableRow) -> Iterator[RunFolder]:
    """The row's folder for the block, begun or of the same configuration.

    Raises ValueError naming folder and field where it is not, BlockingIOError where another process
    works in it.
    """
    from .runs import open_folder

    with open_folder(row.folder, row.config, mode="resume") as folder:
        yield folder


def is_done(row: TableRow, folder: RunFolder) -> bool:
    """Whether as many rounds as wanted are done, or no more can be, and all is written."""
    if folder.complete(row.label):
        # Where there is a state it was killed just before that was removed.
        return not folder.state(row.label).exists()
    return len(folder.histories[row.label]) >= row.rounds


def train(row: TableRow, folder: RunFolder, setting: Setting) -> Generator[Row, None, None]:
    """Runs what is missing of a claimed row; yields the rows of history as they come."""
    from . import runs

    # Where an earlier call ended stays evaluated: what a report has listed does not vanish.
    yield from runs.train(folder, _until(row), setting, row.label, all_figures=True)
    if folder.complete(row.label):
        folder.remove_state(row.label)


def _until(row: TableRow) -> RunConfig:
    """The configuration that ends with `row.rounds`: "the last rounds" stay those of the paper."""
    last = row.config.eval_last - (row.config.rounds - row.rounds)
    return row.config.model_copy(update={"rounds": row.rounds, "eval_last": max(1, last)})
