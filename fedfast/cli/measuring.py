"""What commands that measure finished runs share: labels, a line of progress, files, figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from .._messages import unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..runs.run_models import RunModels

CLEAR = "\r\x1b[2K"  # to the beginning of the line; nothing on it


def labels_in(runs: Sequence[Path], chosen: Sequence[str] | None) -> dict[Path, list[str]]:
    """Which labels of each run; ValueError for one that no run has, and runs that have none."""
    from ..runs.models_of import config_of

    there = {folder: list(config_of(folder).algorithms) for folder in runs}
    known = list(dict.fromkeys(label for labels in there.values() for label in labels))
    for label in chosen or ():
        if label not in known:
            raise unknown("label", label, known)
    found = {f: [x for x in labels if x in (chosen or known)] for f, labels in there.items()}
    for folder, labels in found.items():
        if not labels:
            raise ValueError(
                f"{folder}: expected one of --labels; it has {', '.join(there[folder])}"
            )
    return found


def check_clients(there: Mapping[Path, Sequence[str]]) -> None:
    """Raise ValueError for labels that have no clients, where clients' models are asked for."""
    from .. import algorithms
    from ..runs.models_of import config_of

    for folder, labels in there.items():
        sections = config_of(folder).algorithms
        for label in labels:
            section = sections[label]
            if algorithms.by_name(section.name, **section.options()).pools:
                raise ValueError(
                    f"clients: {label} of {folder} has none; it trains one model on the data of "
                    "all; --labels names those to measure"
                )


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A line on a terminal that says what is measured: each text takes the place of the last.

    The line is gone at the end, before results are printed. Nothing is shown elsewhere.
    """
    shown = sys.stderr.isatty()

    def tell(text: str) -> None:
        if shown:
            print(f"{CLEAR}{text}", end="", flush=True, file=sys.stderr)

    try:
        yield tell
    finally:
        tell("")


def before_labels(folder: Path, runs: Sequence[Path]) -> str:
    """What tells the labels of one of several runs apart in tables and figures."""
    return f"{folder.name} " if len(runs) > 1 else ""


class Measured(Protocol):
    """What is measured of a label: a dataclass whose rows go into a CSV file."""

    @property
    def label(self) -> str:
        """Of a run."""

    def rows(self) -> Iterable[Mapping[str, object]]:
        """column -> value, each with a column `label`."""


M = TypeVar("M", bound=Measured)


def measured(
    options: argparse.Namespace,
    name: str,
    measure: Callable[[RunModels, Callable[[str], None]], Iterable[M]],
    same: Sequence[str] = ("label",),
    clients: bool = False,
) -> tuple[list[M], list[Path]]:
    """What `measure` finds of each label, and the files `RUN/name` that hold it.

    A label's rows are written as soon as they are there: an interrupted command loses none. Labels
    of several runs are told apart by the name of the run's folder.

    measure  of a run's models, and what shows a line of progress
    same     see `measured_rows.write`
    clients  whether models of clients are asked for
    """
    from ..runs import measured_rows
    from ..runs.models_of import open_run

    there = labels_in(options.runs, options.labels)
    if clients:
        check_clients(there)
    for folder in there:  # what cannot be written is told before the work
        measured_rows.check(folder, name)
    (options.out or options.runs[0]).mkdir(parents=True, exist_ok=True)
    found: list[M] = []
    for folder, label in ((run, label) for run in there for label in there[run]):
        with progress() as tell:
            own = list(measure(open_run(folder, label), tell))
        rows = [row for one in own for row in one.rows()]
        measured_rows.write(folder, name, rows, same=same)
        before = before_labels(folder, options.runs)
        found += [replace(one, label=f"{before}{one.label}") for one in own]  # type: ignore[type-var]
    return found, [folder / name for folder in there]


def saved(figures: Mapping[str, Figure], out: Path, formats: Sequence[str]) -> list[Path]:
    """Each figure as `out/NAME.FORMAT`, atomically; the paths."""
    from ..files import atomic
    from ..report.style import save

    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        for kind in formats:
            paths.append(out / f"{name}.{kind}")
            atomic(paths[-1], partial(save, figure))
    return paths
