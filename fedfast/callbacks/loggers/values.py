"""What loggers log: a row's numbers, the options of a run, how it ended; names for runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...declarations import declarations
from ...history import READ, History, Row
from ...run_options import RunOptions
from ..base import RunInfo

if TYPE_CHECKING:
    from ..base import Sim

NUMBERS = tuple(name for name, kind in READ.items() if kind is not str and name != "round")


def numbers(row: Row) -> dict[str, float]:
    """name -> value of the columns that have one, of metrics too; the algorithm's own numbers as
    scalars/NAME."""
    found = {name: float(getattr(row, name)) for name in NUMBERS}
    own = dict(pair.split("=") for pair in row.scalars.split())
    found |= {f"scalars/{name}": float(value) for name, value in own.items()} | dict(row.measured)
    return {name: value for name, value in found.items() if not math.isnan(value)}


def outcome(history: History) -> dict[str, float | str]:
    """How it ended: rounds, status, the last accuracy and loss, the best accuracy and its round."""
    if not len(history):
        return {"rounds": 0}
    made: dict[str, float | str] = {"rounds": len(history), "status": history.last().status}
    for name in ("accuracy", "loss", "train_loss"):
        known = [value for value in history.column(name) if not math.isnan(value)]
        made |= {f"last_{name}": known[-1]} if known else {}
    if any(not math.isnan(value) for value in history.column("accuracy")):
        best = history.best()
        made |= {"best_accuracy": best.accuracy, "best_round": best.round}
    return made


def options(sim: Sim, run: RunInfo) -> dict[str, object]:
    """ "partition.alpha" -> value: the run's config with this label's algorithm alone.

    In Python the options of the simulation. What YAML cannot hold is text.
    """
    if run.config:
        algorithms = run.config.get("algorithms")
        own = algorithms.get(run.label) if isinstance(algorithms, Mapping) else None
        rest = {k: v for k, v in run.config.items() if k not in ("algorithms", "paper")}
        return flat({"label": run.label, "algorithm": own, **rest})
    given = sim._design.options
    named = {option.name: getattr(given, option.name) for option in declarations(RunOptions)}
    return flat({"label": run.label, "algorithm": repr(sim.algorithm), **named})


def flat(values: Mapping[str, object], above: str = "") -> dict[str, object]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    made: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            made |= flat(value, f"{above}{key}.")
        else:
            known = value is None or isinstance(value, bool | int | float | str | list)
            made[f"{above}{key}"] = value if known else repr(value)
    return made


def group(run: RunInfo) -> str:
    """The run folder's name for people: relative to here, without `runs/`; "" without one."""
    if run.folder is None:
        return ""
    path, here = run.folder.resolve(), Path.cwd().resolve()
    parts = path.relative_to(here).parts if path.is_relative_to(here) else path.parts[-1:]
    return "/".join(parts[1:] if parts[:1] == ("runs",) and len(parts) > 1 else parts)


def title(run: RunInfo) -> str:
    """A name for one label's run: its group and the label."""
    return "/".join(part for part in (group(run), run.label) if part)
