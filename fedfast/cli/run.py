"""`fedfast run CONFIG [--field value ...]`: each algorithm of the file, all else equal."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from . import fail, stopping
from .setting import USER, Setting, prepare, simulation

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..runs import RunFolder

USAGE = """\
usage: fedfast run CONFIG [--field value ...]

  fedfast run CONFIG --help   every field, with its value in CONFIG
  fedfast run --help          every field, with its default
"""
NOTHING = "stopped before the first round; nothing was kept"


def main(argv: list[str]) -> int:
    """Runs the command; see `fedfast.cli.main` for the exit status."""
    from .. import config as configs

    if argv and argv[0] in ("-h", "--help"):
        return _fields()
    if not argv or argv[0].startswith("-"):
        print(USAGE, end="", file=sys.stderr)
        found = repr(argv[0]) if argv else "nothing"
        return fail(f"expected the path of a config file first, found {found}")
    try:
        config = configs.load(argv[0], argv[1:])
    except configs.ConfigError as error:
        return fail(str(error))
    return run(config, Path(argv[0]).stem, " ".join(["fedfast run", *argv]))


def run(config: RunConfig, name: str, command: str) -> int:
    """Trains every algorithm of `config` into its run folder; returns the exit status."""
    from .. import config as configs
    from ..runs import RunFolder

    try:
        folder = RunFolder(config.out or name, configs.dumps(config, _origin(command)))
    except OSError as error:
        return fail(str(error))
    with stopping.sigterm() as stop:
        try:
            setting = prepare(config)
            print(f"{setting} -> {folder.path}", flush=True)
        except USER as error:
            folder.discard()
            return fail(str(error))
        except BaseException as error:
            folder.discard()
            if isinstance(error, KeyboardInterrupt):
                return fail(NOTHING, stopping.status(error))
            raise
        return _train_all(config, folder, setting, name, stop)


def _train_all(
    config: RunConfig, folder: RunFolder, setting: Setting, name: str, stop: stopping.Stop
) -> int:
    """Runs every label. However that goes, the folder is complete up to the last round."""
    status, ending = 0, ""
    try:
        for label in config.algorithms:
            _train(config, folder, setting, label, stop)
    except KeyboardInterrupt as error:
        if not folder.rounds:
            folder.discard()
            return fail(NOTHING, stopping.status(error))
        status, ending = stopping.status(error), f"stopped {_where(config, folder)}"
    except (Exception, SystemExit) as error:  # a callback's `sys.exit` must not lose the rounds
        if isinstance(error, USER) and not folder.rounds:
            folder.discard()
            return fail(str(error))
        status, ending = 1, f"failed {_where(config, folder)}: {type(error).__name__}: {error}"
        folder.traceback = traceback.format_exc()
    try:
        folder.finish(_heading(config, setting, name, ending))
    except OSError as error:  # a full disk: what was written before stays readable
        return fail(f"{ending or 'ended'}; cannot complete {folder.path}: {error}", 1)
    _show(folder)
    if not status:
        return 0
    more = f"; traceback in {folder.path / 'error.txt'}" if folder.traceback else ""
    return fail(f"{ending}; the rounds before it are in {folder.path}{more}", status)


def _train(
    config: RunConfig, folder: RunFolder, setting: Setting, label: str, stop: stopping.Stop
) -> None:
    from ..report.progress import Progress

    folder.begin(label)
    sim = simulation(config, setting, label)
    folder.remarks[label] = str(sim.memory)
    with Progress(config.rounds, label.ljust(max(map(len, config.algorithms)))) as show:
        for row in sim:
            folder.record(label, row, sim.state_dict())
            show(row)
            stop.check()
    folder.end(label)


def _where(config: RunConfig, folder: RunFolder) -> str:
    label, history = list(folder.histories.items())[-1]
    done = history.last().round if len(history) else 0
    left = [other for other in config.algorithms if other not in folder.histories]
    never = f" (not begun: {', '.join(left)})" if left else ""
    return f"in {label} after round {done} of {config.rounds}{never}"


def _heading(config: RunConfig, setting: Setting, name: str, ending: str) -> str:
    """The head of the summary: what was run, and how it ended where it ended early."""
    part = config.partition.model_dump(exclude={"name", "clients", "seed"}, exclude_none=True)
    skew = ", ".join(f"{key} {value}" for key, value in part.items())
    lines = [
        f"# {name}",
        f"{setting}; {config.partition.name} partition{f' ({skew})' if skew else ''}, "
        f"model {config.model.name}, {config.rounds} rounds, participation "
        f"{config.participation:g}, {config.local_epochs} local epochs, lr {_rate(config.lr)}, "
        f"{f'augmented by {config.augment}, ' if config.augment else ''}"
        f"seed {config.seed}. Accuracy and loss are the global model's on the test set.",
    ]
    return "\n\n".join([*lines, f"**{ending}**"] if ending else lines)


def _rate(lr: object) -> str:
    """`0.1`, or `cosine (start 0.1, rounds 300)`."""
    if not isinstance(lr, dict):
        return f"{lr:g}"
    return f"{lr['name']} ({', '.join(f'{k} {v}' for k, v in lr.items() if k != 'name')})"


def _show(folder: RunFolder) -> None:
    """The table and the files, at the end."""
    from rich.console import Console
    from rich.text import Text

    from ..report import run_table

    console = Console(highlight=False)
    console.print(run_table.table(folder.histories, console.width))
    for label, what in run_table.notes(folder.histories):
        console.print(Text(f"{label}: {what}"))
    names = [str(path.relative_to(folder.path)) for path in folder.files()]
    print(folder.path)
    for inside in (False, True):  # the checkpoints, which may be many, on a line of their own
        print("  " + "  ".join(name for name in names if ("/" in name) == inside), flush=True)


def _fields() -> int:
    """The help without a file: every field with its default, then tyro's exit."""
    from ..config import flags

    with suppress(SystemExit):
        flags.apply(Path("CONFIG"), {}, ["--help"])
    return 0


def _origin(command: str) -> str:
    import torch

    return f"written by fedfast {version('fedfast')}, torch {torch.__version__}\n{command}"
