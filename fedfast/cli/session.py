"""A run in its folder on a terminal: what `run` and `resume` have in common."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from . import fail, launched, stopping
from .setting import USER, Setting, prepare

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..distributed import Ranks
    from ..runs import RunFolder
    from ..runs.opening import Mode

NOTHING = "stopped before the first round; nothing was kept"
OFFER = """\
--resume goes on with it; --fresh moves it to {name}.previous and begins anew; \
--out FOLDER runs elsewhere"""


def run(
    config: RunConfig,
    path: str | Path,
    name: str,
    command: str,
    mode: Mode,
    profile: bool = False,
) -> int:
    """Trains what is missing of every label of `config` in the folder; returns the exit status.

    By all processes that torchrun has started, of which the first has the folder and the terminal.

    profile  keep a trace of every label
    """
    in_folder = partial(_in_folder, config, path, name, command, mode, profile)
    if not launched():
        return in_folder(None)
    from . import ranks

    return ranks.run(config, in_folder)


def _in_folder(
    config: RunConfig,
    path: str | Path,
    name: str,
    command: str,
    mode: Mode,
    profile: bool,
    ranks: Ranks | None,
) -> int:
    from ..runs import RunExists, open_folder

    try:
        with (
            _plain_warnings(),
            stopping.sigterm() as stop,
            open_folder(path, config, mode=mode, comment=_origin(command)) as folder,
        ):
            stop.later = ranks is not None
            return _run(folder, name, stop, profile, ranks)
    except KeyboardInterrupt as error:
        return fail(NOTHING, stopping.status(error))
    except BrokenPipeError:  # nobody reads on, which is no mistake to be told
        raise
    except RunExists as error:
        return fail(f"{error}\n{OFFER.format(name=path)}")
    except USER as error:
        return fail(str(error))


def _run(
    folder: RunFolder, name: str, stop: stopping.Stop, profile: bool, ranks: Ranks | None
) -> int:
    missing = [label for label in folder.config.algorithms if not folder.complete(label)]
    if not missing:
        print(f"{folder.path}: complete, nothing is left to run")
        _show(folder)
        return 0
    setting = prepare(folder.config)
    shared = "" if ranks is None else f", {ranks.size} ranks"
    print(f"{setting}{shared} -> {folder.path}", flush=True)
    if folder.rounds:
        print(f"goes on: {_done(folder)}", flush=True)
    if folder.earlier is not None:
        older = ", in place of the one that was there" if folder.removes_older else ""
        print(f"the earlier run is now {folder.earlier}{older}", flush=True)
    return _Session(folder, setting, name, stop, profile, ranks).train(missing)


class _Session:
    """The labels of a folder, one after another. However that goes, the folder is complete up to
    the last round."""

    def __init__(
        self,
        folder: RunFolder,
        setting: Setting,
        name: str,
        stop: stopping.Stop,
        profile: bool,
        ranks: Ranks | None,
    ) -> None:
        self.folder, self.setting, self.name, self.stop = folder, setting, name, stop
        self.profile, self.ranks = profile, ranks
        self.label = ""  # the one under way
        self.before = folder.rounds

    def train(self, labels: list[str]) -> int:
        """Returns the exit status. Raises what ended it before any round was kept."""
        status, ending = 0, ""
        try:
            for self.label in labels:
                self._train()
        except KeyboardInterrupt as error:
            if not self.folder.rounds:
                raise
            status, ending = stopping.status(error), f"stopped {self._where(labels)}"
        except (Exception, SystemExit) as error:  # a callback's exit must not lose the rounds
            if isinstance(error, USER) and self.folder.rounds == self.before:
                raise
            status, ending = 1, f"failed {self._where(labels)}: {_what(error)}"
            if not _lost(error):
                self.folder.traceback = traceback.format_exc()
        return self._finish(status, ending)

    def _train(self) -> None:
        from ..report.progress import Progress
        from ..runs import train

        folder, labels = self.folder, self.folder.config.algorithms
        given = folder.config, self.setting, self.label
        if self.ranks is not None:
            self.ranks.tell("train", self.label, str(folder.path))
        rounds = train(folder, *given, profile=self.profile)
        with (
            closing(rounds),
            Progress(folder.config.rounds, self.label.ljust(max(map(len, labels)))) as show,
        ):
            for row in rounds:
                show(row)
                self.stop.check()
        if self.ranks is not None:
            self.ranks.tell("leave")
        if ended := folder.about[self.label].ended:
            print(f"{self.label}: ended after round {len(folder.histories[self.label])}: {ended}")

    def _finish(self, status: int, ending: str) -> int:
        from ..runs import summary

        folder = self.folder
        if folder.earlier is not None and not folder.rounds:
            print(folder.traceback, file=sys.stderr)  # the file would go with the folder
            return fail(f"{ending}; the earlier run is back in {folder.path}", status)
        try:
            summary.write(folder, self.setting, self.name, ending)
        except OSError as error:  # a full disk: what was written before stays readable
            return fail(f"{ending or 'ended'}; cannot complete {folder.path}: {error}", 1)
        if folder.rounds:
            _show(folder)
        if not status:
            return 0
        text = f"{ending}; "
        if folder.rounds:
            text += folder.goes_on(self.label)
        else:
            text += "no round was done"
        more = f"; traceback in {folder.path / 'error.txt'}" if folder.traceback else ""
        return fail(text + more, status)

    def _where(self, labels: list[str]) -> str:
        done, config = len(self.folder.histories[self.label]), self.folder.config
        left = labels[labels.index(self.label) + 1 :]
        left = [label for label in left if not len(self.folder.histories[label])]
        never = f" (not begun: {', '.join(left)})" if left else ""
        return f"in {self.label} after round {done} of {config.rounds}{never}"


def _lost(error: BaseException) -> bool:
    """Whether it is another rank's."""
    from ..distributed import RankLost

    return isinstance(error, RankLost)


def _what(error: BaseException) -> str:
    return str(error) if _lost(error) else f"{type(error).__name__}: {error}"


def _done(folder: RunFolder) -> str:
    rounds = folder.config.rounds
    parts = [f"{label} {len(h)} of {rounds} rounds" for label, h in folder.histories.items()]
    return ", ".join(parts)


def _show(folder: RunFolder) -> None:
    """The table and the files, at the end."""
    from rich.console import Console
    from rich.text import Text

    from ..report import run_table
    from ..report.text_table import listed

    folder.close()
    histories = {label: history for label, history in folder.histories.items() if len(history)}
    console = Console(highlight=False)
    console.print(run_table.table(histories, console.width))
    for label, what in run_table.notes(histories):
        console.print(Text(f"{label}: {what}"))
    names = list(dict.fromkeys(_name(path.relative_to(folder.path)) for path in folder.files()))
    print(folder.path)
    for inside in (False, True):  # the checkpoints, which may be many, on a line of their own
        print(listed(name for name in names if ("/" in name) == inside), flush=True)


def _name(path: Path) -> str:
    """A file as it is listed; those of loggers, which are many, by their folder."""
    return (
        str(path)
        if path.parts[0] in (path.name, "checkpoint", "profile")
        else f"{path.parts[0]}/..."
    )


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as lines of ours, not with the line of code that they come from."""
    shown = warnings.showwarning

    def show(message: Warning | str, *_: object, **__: object) -> None:
        fail(f"warning: {message}")

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


def _origin(command: str) -> str:
    import torch

    return f"written by fedfast {version('fedfast')}, torch {torch.__version__}\n{command}"
