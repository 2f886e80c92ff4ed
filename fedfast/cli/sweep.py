"""`fedfast sweep CONFIG --seeds 0,1 --grid field=a,b`: all combinations, several at a time."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import fail, opening, stopping
from .setting import USER

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..config.draft import Draft
    from ..sweep.results import Result
    from ..sweep.runner import Runner
    from ..sweep.search import Best

USAGE = """\
usage: fedfast sweep CONFIG [options] [--field value ...]

Trains every combination of the grid's values under every seed, several at a time, each in a run
folder of its own. The same command goes on where it was stopped or killed.

  --seeds A,B,C           the seeds (default: the config's)
  --grid FIELD=A,B        the values of a field; may be given several times. A field of one
                          algorithm (algorithms.fedsam.rho=0.05,0.1) varies that algorithm alone
  --jobs N                rows at once (default: one per GPU, or as many as there are cores)
  --launcher local|ray    rows as processes here (default), or on a Ray cluster: RAY_ADDRESS, or
                          one that is started here (pip install "fedfast[ray]")
  --out FOLDER            where rows are kept (default runs/<name of CONFIG>-sweep)
  --field value           as of `fedfast run`, for every row: --rounds 20, --threads 2, ...

Instead of a grid, a search by Optuna (pip install "fedfast[search]"), each algorithm on its own:
  --search FIELD=LOW..HIGH[:log], --search FIELD=A|B|C
                          what it may choose; may be given several times
  --trials N              how many settings it tries (default 20)
  --metric COLUMN[:SUMMARY]
                          what it looks at: accuracy (default), accuracy:best, loss:mean-10, a
                          column of the run's metrics, ...
  --mode max|min          whether more of it is better (default: by the column's name)
  --storage sqlite:///FILE
                          where Optuna keeps the search (default: in the process)

All of these may also be a section of the config:
  sweep: {seeds: [0, 1, 2], grid: {partition.alpha: [0.1, 0.5]}}
"""
CHOICES = {"launcher": ("local", "ray"), "mode": ("auto", "max", "min")}  # what TAB offers
OWN = ("seeds", "jobs", "launcher", "trials", "metric", "mode", "storage")
NOTHING = (
    "nothing to sweep: expected --seeds, --grid or --search, or a section `sweep` in the config"
)


def main(argv: list[str]) -> int:
    """Runs the command; 0, 1 where a row failed, 2 for wrong use, 130 or 143 when stopped."""
    from ..config import ConfigError

    if (status := opening(argv, USAGE, "the path of a config file")) is not None:
        return status
    try:
        draft = _draft(argv[0], argv[1:])
        config = draft.config()
        if config.sweep is None:
            return fail(NOTHING)
        return _sweep(draft, config, " ".join(["fedfast sweep", *argv]))
    except (ConfigError, *USER) as error:
        return fail(str(error))


def _draft(path: str, argv: list[str]) -> Draft:
    """The config, with our flags in its section `sweep` and the others where they belong."""
    from ..config.draft import Draft

    parser = argparse.ArgumentParser(
        "fedfast sweep", usage=USAGE[7:], add_help=False, allow_abbrev=False
    )
    for name in OWN:
        parser.add_argument(f"--{name}")
    for name in ("grid", "search"):
        parser.add_argument(f"--{name}", action="append", default=[])
    ours, flags = parser.parse_known_args(argv)
    return with_sweep(Draft.read(path, flags), ours)


def with_sweep(draft: Draft, ours: argparse.Namespace) -> Draft:
    """`draft` with the sweep's own flags before its section `sweep`, value by value."""
    from dataclasses import replace

    from ..config.yaml_reader import value
    from ..sweep.grid import listed

    old = draft.raw.get("sweep")
    new, given = dict(old) if isinstance(old, dict) else {}, dict(draft.given)
    for name in OWN:
        text = getattr(ours, name)
        if text is not None:
            new[name] = listed("--seeds", text) if name == "seeds" else value(text)
            given["sweep", name] = f"--{name}"
    for kind in ("grid", "search"):
        for text in getattr(ours, kind):
            name, equals, values = text.partition("=")
            if not (name and equals):
                expected = "FIELD=A,B" if kind == "grid" else "FIELD=LOW..HIGH or FIELD=A|B"
                raise ValueError(f"--{kind}: expected {expected}, found {text!r}")
            flag, below = f"--{kind} {name}", new.get(kind)
            read = listed(flag, values) if kind == "grid" else values
            new[kind] = {**(below if isinstance(below, dict) else {}), name: read}
            given["sweep", kind, name] = flag
    raw = {**draft.raw, "sweep": new} if new else draft.raw
    return replace(draft, raw=raw, given=given)


def _sweep(draft: Draft, config: RunConfig, command: str) -> int:
    """Checks every row, takes the folder, trains and reports."""
    from ..sweep import folder
    from ..sweep.runner import Runner

    out = Path(str(draft.raw.get("out") or f"runs/{draft.path.stem}-sweep"))
    count, train = _plan(draft, config, out)
    runner = Runner(config, out, count)
    best: list[Best] = []
    with folder.claimed(out, runner.config, command):
        rows = f"{count} row{'s' * (count != 1)}"
        print(f"{rows}, {runner.jobs} at a time -> {out}", flush=True)
        status = 0
        with stopping.sigterm():
            try:
                with runner:
                    best += train(runner)
            except KeyboardInterrupt as error:
                status = stopping.status(error)
        return _report(list(runner.results.values()), best, runner, status)


def _plan(draft: Draft, config: RunConfig, out: Path) -> tuple[int, Callable[[Runner], list[Best]]]:
    """How many rows there are, and what trains them. All is checked before the first one."""
    from ..sweep.grid import axis, rows
    from ..sweep.search import Search, choice

    section = config.sweep
    assert section is not None
    if section.search:
        fields = [
            choice(draft, k, v, _place(draft, "search", k)) for k, v in section.search.items()
        ]
        search = Search(draft, config, section, fields, out)
        return search.count, search.run
    axes = [axis(draft, k, v, _place(draft, "grid", k)) for k, v in section.grid.items()]
    made = rows(draft, axes, section.seeds or [config.seed], out)

    def train(runner: Runner) -> list[Best]:
        runner.train(made)
        return []

    return len(made), train


def _place(draft: Draft, kind: str, name: str) -> str:
    """Where a field of the grid or search was named: the flag, or file, line and key."""
    loc = ("sweep", kind, name)
    line = f":{draft.where[loc]}" if loc in draft.where else ""
    return draft.given.get(loc, f"{draft.path}{line}: {'.'.join(loc)}")


def _report(results: Sequence[Result], best: Sequence[Best], runner: Runner, status: int) -> int:
    """Table and files, then a line for each row that failed, and whether it was stopped."""
    from rich.console import Console

    from ..sweep.results import table

    console = Console(highlight=False)
    if not runner.section.search:
        console.print(table(results, console))
    for one in best:
        print(f"{one}\n  {one.command(runner.out)}")
    print(f"{runner.out}\n  config.yaml  sweep.csv", flush=True)
    if not status:
        print(f"tables and tests: fedfast compare {shlex.quote(str(runner.out))}", flush=True)
    for row in results:
        if row.status == "failed":
            path = row.row.folder / "error.txt"
            more = f"; more in {path}" if path.exists() else ""
            status = max(status, fail(f"{row.row}: {row.error}{more}", 1))
    if status > 1:
        done = sum(one.status in ("done", "diverged") for one in results)
        fail(f"stopped with {done} of {runner.total} rows done; the same command goes on")
    return status
