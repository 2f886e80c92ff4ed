"""`open_folder`: a folder for a run, whatever there is already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

from .. import config as configs
from .._messages import path_of
from ..config import ConfigError, RunConfig
from ..files import locked, sweep_folder
from .aside import Aside
from .changes import check
from .folder import RunFolder
from .migration import migrate
from .reading import foreign, holds_run, is_begun, read, status

Mode = Literal["new", "resume", "fresh"]


class RunExists(ValueError):
    """There is a run in the folder, and nothing was said about what to do with it."""


@contextmanager
def open_folder(
    path: str | Path, config: RunConfig, *, mode: Mode = "new", comment: str = ""
) -> Iterator[RunFolder]:
    """The folder of a run for the block, made or gone on with, under its lock.

    mode     what to do with a run that is there: "new" raises RunExists, "resume" goes on with it
             and "fresh" moves it to `PATH.previous` (and back, where no round is completed here)
    comment  what is said in config.yaml about the command

    A folder in which no round was kept counts as empty; it is removed again where none is done.
    Raises ValueError naming each option that differs from those of the run that goes on,
    BlockingIOError where another process works in the folder, FileExistsError where it holds other
    files, OSError naming it where it cannot be made.
    """
    path = path_of("out", path)
    aside, ours = Aside(path), False
    if mode == "fresh":
        aside.move()
    try:
        _make(path)
        with locked(path / ".lock", str(path)):
            ours = True
            folder = _opened(path, config, mode, comment)
            folder.earlier = aside.previous if aside.moved else None
            folder.removes_older = aside.older.exists()
            try:
                yield folder
            finally:
                _close(folder)
    finally:
        with suppress(OSError):  # it holds something
            path.rmdir()
        if ours or not path.exists():
            aside.end()


def _opened(path: Path, config: RunConfig, mode: Mode, comment: str) -> RunFolder:
    if not holds_run(path):
        if other := foreign(path):
            raise FileExistsError(
                f"out: expected a run folder or an empty one, found {', '.join(other[:3])} in "
                f"{path}"
            )
        folder = RunFolder(path, config, comment, new=True)
        folder.alone = True
        return folder
    if is_begun(path) and mode != "resume":
        raise RunExists(f"{path} holds a run: {_described(path)}")
    for there in (path, path / "checkpoint"):
        sweep_folder(there)
    if not is_begun(path):
        return RunFolder(path, config, comment, new=True)
    old = configs.load_kept(path / "config.yaml")
    check(path, old, config, {label: read(path, label)[0] for label in old.algorithms})
    if len(config.algorithms) == 1:
        migrate(path, next(iter(config.algorithms)))
    return RunFolder(path, config, comment, new=False)


def _described(path: Path) -> str:
    try:
        config = configs.load_kept(path / "config.yaml")
        found = status(path, config.algorithms, config.rounds)
    except (ConfigError, ValueError, TypeError, OSError) as error:
        found = f"not readable ({error})"
    when = max(p.stat().st_mtime for p in path.iterdir())
    return f"{found}; last written {datetime.fromtimestamp(when):%Y-%m-%d %H:%M}"


def _close(folder: RunFolder) -> None:
    """What was begun in vain is taken back, unless an error is to be read about there."""
    try:
        folder.close()
    finally:
        if folder.new and not folder.rounds and (folder.earlier or not folder.traceback):
            folder.discard()


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise FileExistsError(f"out: expected a folder, found a file: {path}") from error
    except NotADirectoryError as error:
        raise NotADirectoryError(f"out: a file is in the way of {path}") from error
    except OSError as error:
        raise type(error)(f"out: cannot write in {path}: {error.strerror}") from error
