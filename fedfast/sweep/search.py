"""A search by Optuna: TPE proposes settings, each of which is a row (or one for every seed).

Every label has a study of its own over the shared fields and its own ones. Trials are proposed in
groups of as many as run at once, and told in order: seed and `jobs` decide the whole search. The
same command therefore proposes the same trials again, and those whose rows are done cost nothing.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..better import check_column
from ..config import ConfigError, RunConfig
from ..config.draft import Draft
from ..config.fields import Loc
from ..config.sweep_section import SweepSection
from ..config.yaml_reader import value
from ..metrics.agreement import round_metrics
from .grid import Axis, SweepRow, axis, check_values, checked, names, row, text
from .results import Result
from .runner import Runner

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial

RANGE = re.compile(r"(?P<low>.+?)\.\.(?P<high>.+?)(?P<log>:log)?")
DIGITS = 4  # significant ones of a float: folders and commands are read by people
MISSING = 'a search needs Optuna: pip install "fedfast[search]"'


@dataclass(frozen=True)
class Choice:
    """One field, and what may be chosen for it: all the axis's values, or all between its two."""

    axis: Axis
    kind: str  # "values", "range" or "log"

    def distribution(self) -> BaseDistribution:
        """As Optuna has it; values by their text, since it keeps no lists."""
        from optuna import distributions as d

        if self.kind == "values":
            return d.CategoricalDistribution([text(v) for v in self.axis.values])
        low, high = self.axis.values
        log = self.kind == "log"
        if isinstance(low, int) and isinstance(high, int):
            return d.IntDistribution(low, high, log=log)
        return d.FloatDistribution(float(str(low)), float(str(high)), log=log)

    def value(self, chosen: object) -> object:
        """The field's value for what Optuna chose."""
        if self.kind == "values":
            return next(v for v in self.axis.values if text(v) == chosen)
        if not isinstance(chosen, float):
            return chosen
        low, high = (float(str(v)) for v in self.axis.values)
        return min(high, max(low, float(f"{chosen:.{DIGITS}g}")))


@dataclass(frozen=True)
class Best:
    """The best of so many trials of a label.

    value  its metric, the mean over `seeds`
    row    of the first seed
    """

    number: int
    trials: int
    metric: str
    value: float
    seeds: int
    row: SweepRow

    def __str__(self) -> str:
        over = f", mean of {self.seeds} seeds" if self.seeds > 1 else ""
        value = f"{self.metric} {self.value:.4g}{over}"
        which = f"best of {self.trials} trials is number {self.number}"
        return f"{self.row.label}: {which} ({value}): {self.row.combination}"

    def command(self, out: Path) -> str:
        """What runs it, in a folder beside that of the sweep."""
        return (
            f"fedfast run {shlex.quote(str(self.row.folder / 'config.yaml'))} "
            f"--out {shlex.quote(f'{out}-best-{self.row.label}')}"
        )


def require() -> None:
    """Raises ValueError with what to install where Optuna is not there."""
    try:
        import optuna
    except ImportError as error:
        raise ValueError(MISSING) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def choice(draft: Draft, name: str, given: str, place: str) -> Choice:
    """Reads `low..high`, `low..high:log` or `a|b|c`. Raises ConfigError naming its `place`."""
    found = RANGE.fullmatch(given)
    if found is None:
        values = [value(part) for part in given.split("|")]
        if len(values) < 2 or len(set(map(text, values))) < len(values):
            expected = "LOW..HIGH, LOW..HIGH:log or different values A|B|C"
            raise ConfigError(f"{place}: expected {expected}, found {given!r}")
        return Choice(axis(draft, name, values, place), "values")
    low, high = value(found["low"]), value(found["high"])
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (low, high))
    if not numbers or not low < high or (found["log"] and low <= 0):  # type: ignore[operator]
        above = ", the lower one above 0" if found["log"] else ""
        raise ConfigError(f"{place}: expected two numbers LOW < HIGH{above}, found {given!r}")
    return Choice(axis(draft, name, [low, high], place), "log" if found["log"] else "range")


@dataclass(frozen=True)
class Search:
    """All that the studies of a search share."""

    draft: Draft
    config: RunConfig
    section: SweepSection
    choices: Sequence[Choice]
    out: Path

    def __post_init__(self) -> None:
        require()
        self._check_metric()
        check_values(self.draft, [one.axis for one in self.choices])

    def _check_metric(self) -> None:
        """Raises ConfigError for a column that these runs do not have."""
        measured = [c for metric in round_metrics(self.config.metrics) for c in metric.columns]
        place = self.draft.given.get(("sweep", "metric"), "sweep.metric")
        try:
            check_column(place, self.section.metric.partition(":")[0], measured)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    @property
    def seeds(self) -> Sequence[int]:
        """Every trial is run under each of them."""
        return self.section.seeds or [self.config.seed]

    @property
    def labels(self) -> list[str]:
        """Those for which there is something to choose."""
        return [label for label in self.config.algorithms if self._of(label)]

    @property
    def count(self) -> int:
        """How many rows there will be."""
        return len(self.labels) * self.section.trials * len(self.seeds)

    def run(self, runner: Runner) -> list[Best]:
        """Searches label by label; the best trial of each that has one."""
        return [best for label in self.labels if (best := self._best(label, runner))]

    def _best(self, label: str, runner: Runner) -> Best | None:
        study = self._study(label)
        self._trials(study, label, runner)
        if not any(t.value is not None and math.isfinite(t.value) for t in study.trials):
            return None
        best, metric, seeds = study.best_trial, self.section.metric, len(self.seeds)
        first = self._rows(label, best.params)[0]
        return Best(best.number, len(study.trials), metric, study.best_value, seeds, first)

    def _of(self, label: str) -> list[Choice]:
        return [one for one in self.choices if one.axis.label in ("", label)]

    def _study(self, label: str) -> Study:
        import optuna

        storage = self.section.storage
        try:
            made = optuna.create_study(
                storage=storage,
                study_name=f"{self.out.name}-{label}",
                load_if_exists=storage is not None,
                direction="maximize" if self.section.maximized else "minimize",
            )
        except Exception as error:  # of SQLAlchemy, or a driver: there are many kinds
            why = str(error).splitlines()[0]
            raise ValueError(f"storage: cannot keep a study in {storage}: {why}") from error
        # What a stored study has drawn must not be drawn again.
        seed = (self.config.seed + len(made.trials)) % 2**32
        made.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return made

    def _trials(self, study: Study, label: str, runner: Runner) -> None:
        from optuna.trial import TrialState

        # Of a stored study whose process was killed.
        left: list[FrozenTrial] = study.get_trials(states=(TrialState.RUNNING,))
        spaces = {one.axis.name: one.distribution() for one in self._of(label)}
        many = max(1, runner.jobs // len(self.seeds))
        while left or (missing := self.section.trials - len(study.trials)) > 0:
            group: Sequence[FrozenTrial | Trial] = left or [
                study.ask(spaces) for _ in range(min(many, missing))
            ]
            left = []
            rows = [self._rows(label, trial.params) for trial in group]
            runner.train([one for rows_of in rows for one in rows_of])
            for trial, rows_of in zip(group, rows, strict=True):
                found = [runner.results[one.folder] for one in rows_of]
                told = self._value(found)
                state = TrialState.FAIL if told is None else TrialState.COMPLETE
                study.tell(trial.number, told, state)

    def _rows(self, label: str, params: Mapping[str, object]) -> list[SweepRow]:
        """One row for each seed. Raises ConfigError for a setting that no run takes."""
        values: dict[Loc, object] = {
            one.axis.loc: one.value(params[one.axis.name]) for one in self._of(label)
        }
        config = checked(self.draft, [one.axis for one in self.choices], values)
        return [row(config, label, names(values), seed, self.out) for seed in self.seeds]

    def _value(self, found: Sequence[Result]) -> float | None:
        """The mean over seeds; the worst there is where one diverged, None where one failed."""
        if any(one.status not in ("done", "diverged") for one in found):
            return None
        column, summary = self.section.column, self.section.metric.partition(":")[2]
        worst = -math.inf if self.section.maximized else math.inf
        values = [one.summary(column, summary or "last") for one in found]
        if any(one.status == "diverged" for one in found) or any(map(math.isnan, values)):
            return worst
        return math.fsum(values) / len(values)
