"""Weights & Biases: a run of theirs for each label, offline unless asked otherwise."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..._messages import path_of
from ...history import Row
from ...validation.values import OneOf
from ..base import CALLBACKS, RunInfo
from . import kept
from .base import Logger
from .values import group, numbers, options, outcome, title

if TYPE_CHECKING:
    import wandb

    from ..base import Sim


@CALLBACKS.register("wandb")
class WandB(Logger):
    """Numbers of each round, at step = round; the options as config; how it ended as summary.

    project  of W&B that the run belongs to
    entity   user or team there; null = the user who is logged in
    mode     offline: files alone, nothing is sent, and `wandb sync` uploads them; or online
    dir      folder in which W&B makes its folder wandb/; null = the run folder, or here without one

    A run that goes on keeps its id. Offline its rounds are written anew into one folder, which
    replaces the one before; online what W&B has already is not sent again.
    Raises ValueError/TypeError naming the argument.
    """

    name, package = "wandb", "wandb"

    def __init__(
        self,
        project: str = "fedfast",
        entity: str | None = None,
        mode: str = "offline",
        dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        OneOf(("offline", "online"))("mode", mode)
        self.project, self.entity, self.mode = project, entity, mode
        self.dir = None if dir is None else path_of("dir", dir)
        self._run: wandb.Run | None = None
        self._info = RunInfo("")
        self._older: list[Path] = []  # folders of earlier parts, whose rounds are written anew

    def begin(self, sim: Sim, run: RunInfo) -> int:
        """Begins or goes on with a run of W&B."""
        if self.mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would be sent
        import wandb

        where, there = self.dir or run.folder or Path(), kept.read(run.folder, run.label, self.name)
        where.mkdir(parents=True, exist_ok=True)
        known = there.get("id") if sim.round else None
        folders = there.get("folders")
        above = run.folder or Path()
        self._older = [above / str(one) for one in folders] if isinstance(folders, list) else []
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            id=str(known) if known else None,
            name=title(run),
            group=group(run) or None,
            config=options(sim, run),
            dir=str(where),
            mode=self.mode,  # type: ignore[arg-type]  # checked
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",  # the user's own runs in this process stay theirs
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._info = run
        self._keep()
        return max(0, self._run.starting_step - 1)

    def write(self, row: Row) -> None:
        """Logs its numbers."""
        assert self._run is not None
        self._run.log({**numbers(row), "round": row.round}, step=row.round)

    def finish(self, sim: Sim) -> None:
        """Waits until everything is written, or sent; folders that are replaced go."""
        assert self._run is not None
        self._run.summary.update(outcome(sim.history))
        self._run.finish()
        if self.mode == "offline":
            for folder in self._older:
                shutil.rmtree(folder, ignore_errors=True)
            self._older = []

    def discard(self) -> None:
        """Removes its files, as far as they are of this run alone."""
        assert self._run is not None
        own = Path(self._run.dir).parent
        shutil.rmtree(own)
        for name in ("latest-run", "debug.log", "debug-internal.log"):  # links to its files
            (own.parent / name).unlink(missing_ok=True)
        with suppress(OSError):
            own.parent.rmdir()
        kept.remove(self._info.folder, self._info.label)

    def _keep(self) -> None:
        assert self._run is not None
        run = self._info
        folders = [*self._older, Path(self._run.dir).parent]
        above = run.folder or Path()  # which may be moved
        names = [os.path.relpath(folder, above) for folder in folders]
        found = {"id": self._run.id, "folders": names}
        kept.write(run.folder, run.label, self.name, found)
