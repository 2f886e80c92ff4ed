"""What is compared: groups of runs that differ in nothing but their seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .._messages import format_value
from ..history import History
from ..run_names import display_names
from ..run_records import RunRecord, groups, records

Runs = str | Path | Sequence[str | Path] | Mapping[str, History | Sequence[History]]
PROBLEM = ("data.", "partition.", "model.", "local_test", "metric")


@dataclass(frozen=True)
class Group:
    """One line of a comparison.

    name       unique
    label      of the runs; the name where histories were given
    histories  seed -> rounds
    options    the same in all runs but for the seed; {} where histories were given
    rounds     how many each run was to have; None where that is not known
    remarks    what is to be said of single runs
    """

    name: str
    label: str
    histories: Mapping[int, History]
    options: Mapping[str, object] = field(default_factory=dict)
    rounds: int | None = None
    remarks: Sequence[str] = ()

    @property
    def problem(self) -> dict[str, object]:
        """The options without which two runs do not learn the same: data, clients, model."""
        return {key: value for key, value in self.options.items() if key.startswith(PROBLEM)}


def samples(runs: Runs) -> list[Group]:
    """The groups in folders, or those given as histories: name -> one of each seed.

    Raises ValueError or TypeError naming what is no run.
    """
    if isinstance(runs, Mapping):
        found = [Group(*_given(name, value)) for name, value in runs.items()]
    else:
        paths = [runs] if isinstance(runs, str | Path) else list(runs)
        found = [_recorded(name, of) for name, of in groups(records(paths)).items()]
    if not found:
        raise ValueError("runs: expected at least one, found none")
    return found


def by_problem(found: Sequence[Group]) -> dict[str, list[Group]]:
    """Groups that learn the same, by what tells them from the others: {"": all of them} if all do.

    >>> low, high = ({"partition.alpha": alpha} for alpha in (0.1, 1.0))
    >>> given = [Group("a", "a", {}, low), Group("b", "b", {}, high), Group("c", "c", {}, low)]
    >>> {name: [group.name for group in of] for name, of in by_problem(given).items()}
    {'alpha=0.1': ['a', 'c'], 'alpha=1.0': ['b']}
    """
    blocks: list[list[Group]] = []
    for group in found:
        block = next((b for b in blocks if b[0].problem == group.problem), None)
        if block is None:
            blocks.append(block := [])
        block.append(group)
    names = display_names([("", block[0].problem) for block in blocks])
    return {name.strip(): block for name, block in zip(names, blocks, strict=True)}


def _given(name: object, value: object) -> tuple[str, str, dict[int, History]]:
    if not isinstance(name, str):
        raise TypeError(f"runs: expected names as keys; got {format_value(name)}")
    listed = [value] if isinstance(value, History) else value
    histories = list(listed) if isinstance(listed, list | tuple) else []
    if not histories or not all(isinstance(h, History) and len(h) for h in histories):
        expected = f"runs: expected histories with rounds, one of each seed, at {name!r}"
        raise TypeError(f"{expected}; got {format_value(value)}")
    return name, name, dict(enumerate(histories))


def _recorded(name: str, runs: Sequence[RunRecord]) -> Group:
    first = runs[0]
    return Group(
        name,
        first.label,
        {run.seed: run.history for run in runs},
        first.options,
        first.config.rounds,
        [remark for run in runs if (remark := _remark(run))],
    )


def _remark(run: RunRecord) -> str:
    """Why a run has fewer rounds than it was to have, or what went wrong in them."""
    bad = next((row for row in run.history if row.status != "ok"), None)
    what = f"; round {bad.round}: {bad.status}" if bad else f": {run.reason}" * bool(run.reason)
    if run.status == "done" and not bad:
        return ""
    done = f"{run.history.last().round} of {run.config.rounds} rounds"
    return f"seed {run.seed} {run.status}, {done}{what}"
