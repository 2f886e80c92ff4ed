"""`fedfast reproduce PATH...`: rows of published tables, ours beside theirs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..example_files import config_file, config_folder, nearest_folder
from . import fail, stopping
from .flag_parser import FlagParser
from .setting import USER, Setting, prepare

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..reproduction import TableRow
    from ..runs import RunFolder

USAGE = """\
usage: fedfast reproduce PATH... [options] [--field value ...]

Runs the rows of a paper's configs (files, or folders of them) and writes one report: published,
ours, difference. What is done already is not run again; what was stopped goes on.

  --rounds N        no more than N of the paper's rounds (a later call with more goes on)
  --seeds A,B,C     other seeds than the paper's
  --only LABEL,...  these rows of each table only
  --out FOLDER      where runs are kept (default runs/reproduction)
  --report FILE     where the report goes (default FOLDER/report.md)
  --dry             run nothing; print what was published, and what there is of ours
  --field value     as of `fedfast run`, for every config: --data.root DIR, --threads 1, ...
"""


def main(argv: list[str]) -> int:
    """Runs the command; 0, 1 where a row failed, 2 for wrong use, 130 or 143 when stopped."""
    from .. import config as configs

    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    try:
        options, flags = _options(argv)
        found = [(path, configs.load(path, flags)) for path in _files(options.paths)]
        return _reproduce(found, options, argv)
    except (configs.ConfigError, *USER) as error:
        return fail(str(error))


def _options(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = FlagParser("fedfast reproduce", USAGE)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seeds", type=_numbers, default=[])
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/reproduction"))
    parser.add_argument("--report", type=Path)
    parser.add_argument("--dry", action="store_true")
    first = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
    options, flags = parser.parse_known_args(argv[first:])
    options.paths = [Path(word) for word in argv[:first]]
    if options.rounds is not None and options.rounds < 1:
        raise ValueError(f"--rounds: expected at least 1, found {options.rounds}")
    return options, flags


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        expected = f"expected numbers divided by commas; got {text!r}"
        raise argparse.ArgumentTypeError(expected) from None


def _files(paths: Sequence[Path]) -> list[Path]:
    """The configs named, and those below the folders named."""
    if not paths:
        raise ValueError("expected configs or folders of them first, found none")
    named = [config_file(config_folder(path)) for path in paths]  # a name may end like a suffix
    for path in named:
        if not path.exists() and (near := nearest_folder(path)):
            raise ValueError(f"{path}: found nothing there; did you mean the examples {near!r}?")
    found = [f for p in named for f in (sorted(p.rglob("*.yaml")) if p.is_dir() else [p])]
    if not found:
        raise ValueError(f"expected .yaml files below {', '.join(map(str, paths))}, found none")
    return found


def _reproduce(
    found: list[tuple[Path, RunConfig]], options: argparse.Namespace, argv: list[str]
) -> int:
    from .. import reproduction

    labels = {label for _, config in found for label in config.algorithms}
    unknown = [label for label in options.only if label not in labels]
    if unknown:
        raise ValueError(f"--only: expected some of {', '.join(sorted(labels))}, found {unknown}")
    tables = []
    for path, config in found:
        rows = reproduction.rows(path, config, options.seeds, options.rounds, options.out)
        chosen = [row for row in rows if not options.only or row.label in options.only]
        tables.append((path, config, chosen))
    status = 0
    try:
        with stopping.sigterm() as stop:
            for _, _, rows in tables if not options.dry else []:
                status = max(status, _train(rows, stop))
            stop.check()
    except KeyboardInterrupt as error:
        status = fail("stopped; the same command goes on", stopping.status(error))
    _report(tables, options, argv)
    return status


def _train(rows: Sequence[TableRow], stop: stopping.Stop) -> int:
    """Runs what is missing of one table's rows; a row that fails does not stop the others."""
    from ..reproduction import claimed, is_done

    status, setting, seed = 0, None, None
    for row in rows:
        stop.check()
        try:
            with claimed(row) as folder:
                if is_done(row, folder):
                    continue
                if setting is None:
                    print(row.name, flush=True)  # the lines of progress have no room for it
                if setting is None or seed != row.config.seed:
                    setting, seed = prepare(row.config), row.config.seed
                _run(row, folder, setting, stop)
        except (*USER, SystemExit) as error:
            text = str(error) if isinstance(error, USER) else f"SystemExit: {error}"
            status = fail(f"{row.label}, seed {row.config.seed}: {text}", 1)
    return status


def _run(row: TableRow, folder: RunFolder, setting: Setting, stop: stopping.Stop) -> None:
    from ..report.progress import Progress
    from ..reproduction import train

    # Closed here: what is kept at its end is not left to a finalizer.
    with (
        closing(train(row, folder, setting)) as rounds,
        Progress(row.rounds, f"{row.label} seed {row.config.seed}") as show,
    ):
        for done in rounds:
            show(done)
            stop.check()


def _report(
    tables: list[tuple[Path, RunConfig, list[TableRow]]],
    options: argparse.Namespace,
    argv: list[str],
) -> None:
    from ..files import atomic
    from ..report.published import PublishedTable

    path = options.report or options.out / "report.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    for file, config, rows in tables:
        by_label = {r.label: [x for x in rows if x.label == r.label] for r in rows}
        table = PublishedTable(config, by_label)
        if options.dry:
            print(table.text())
        picture = path.parent / "-".join(filter(None, (file.parent.name, f"{file.stem}.png")))
        parts.append(table.markdown(picture.name if table.curves(picture) else ""))
    command = " ".join(["fedfast reproduce", *argv])
    text = f"`{command}`\n\n" + "\n".join(parts)
    atomic(path, lambda to: to.write_text(text, encoding="utf-8"))
    print(path)
