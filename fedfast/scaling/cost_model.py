"""A cost model: fitted to the rows of a study, it says what other sizes and machines would take.

For every algorithm the coefficients of `features.terms` are found by non-negative least squares of
errors relative to the round (scipy.optimize.nnls; Lawson and Hanson, 1974, chapter 23), of rounds
and of their phases, reweighted as by Huber's loss (1964).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ..files import atomic
from .features import BETWEEN, PHASE_NAMES, ROUNDS, Size, memory_terms, terms
from .machine import Machine, Rates, machine_from
from .work import Workload

ROBUST = 10  # times that rows are weighed anew
PARTS = 0.3  # weight of a phase beside that of the round
USUAL = 0.05  # of a round: errors beyond it count linearly instead of squared
Coefficients = dict[str, dict[str, float]]  # phase -> term -> value


@dataclass(frozen=True)
class Point:
    """A row as the fit sees it."""

    algorithm: str
    size: Size
    seconds: float
    phases: Mapping[str, float]
    host: float
    each: float
    work: Workload


@dataclass(frozen=True)
class Fitted:
    """One algorithm's part of the model.

    threads  of a rank, by ranks; chunk: clients trained together, None: as many as there are
    """

    work: Workload
    each: float
    chunk: int | None
    coefficients: Coefficients
    memory: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """Seconds of a round and of its phases, bytes of memory of a process."""

    seconds: float
    phases: dict[str, float]
    host: float


@dataclass(frozen=True)
class CostModel:
    """The machine that was measured, and every algorithm's coefficients."""

    machine: Machine
    algorithms: dict[str, Fitted]

    def predict(
        self,
        algorithm: str,
        clients: int,
        cohort: int,
        ranks: int = 1,
        threads: int | None = None,
        rates: Rates | None = None,
        rounds: int = ROUNDS,
    ) -> Prediction:
        """A round of that size.

        threads  of each rank; None: the machine's cores shared out
        rates    another machine's, of all threads together; None: those measured
        rounds   of the run: the later, the fewer clients are new, whose rows are written first
        Raises ValueError for an algorithm that the model does not know, or impossible sizes.
        """
        fitted = self._of(algorithm)
        for name, value in {
            "clients": clients,
            "cohort": cohort,
            "ranks": ranks,
            "rounds": rounds,
        }.items():
            if value < 1:
                raise ValueError(f"{name}: expected at least 1; got {value}")
        if cohort > clients:
            raise ValueError(f"cohort: expected at most clients = {clients}; got {cohort}")
        if ranks > cohort:
            raise ValueError(f"ranks: expected at most cohort = {cohort}; got {ranks}")
        if threads is None:
            threads = max(1, self.machine.cores // ranks)
        size = Size(clients, cohort, ranks, threads, fitted.chunk or cohort, rounds)
        of = rates or self.machine.of(threads * ranks)
        found = terms(size, fitted.work, self.machine, of)
        phases = {name: _sum(fitted.coefficients[name], found[name]) for name in PHASE_NAMES}
        host = _sum(fitted.memory, memory_terms(size, fitted.work, fitted.each))
        return Prediction(sum(phases.values()), phases, host)

    def _of(self, algorithm: str) -> Fitted:
        if algorithm not in self.algorithms:
            known = ", ".join(self.algorithms)
            raise ValueError(f"algorithm: expected one of {known}; got {algorithm!r}")
        return self.algorithms[algorithm]

    def save(self, path: Path) -> None:
        """As JSON. Raises OSError naming the file."""
        kept = {"machine": self.machine.as_json(), "algorithms": asdict(self)["algorithms"]}
        text = json.dumps(kept, indent=1) + "\n"
        atomic(path, lambda to: to.write_text(text, encoding="utf-8"))


def load(path: Path) -> CostModel:
    """What `save` wrote. Raises OSError, or ValueError naming the file where it is damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        made = {
            label: Fitted(**{**found, "work": Workload(**found["work"])})
            for label, found in kept["algorithms"].items()
        }
        return CostModel(machine_from(kept["machine"]), made)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected a cost model, found something else: {error}") from error


def fit(points: Sequence[Point], machine: Machine) -> CostModel:
    """The model of these rows. Raises ValueError without any."""
    if not points:
        raise ValueError("rows: expected at least one that was measured; got none")
    labels = dict.fromkeys(point.algorithm for point in points)
    each = {label: [p for p in points if p.algorithm == label] for label in labels}
    fitted = {label: _fitted(rows, machine) for label, rows in each.items()}
    several = [label for label in labels if any(p.size.ranks > 1 for p in each[label])]
    if several:
        alone = {label: _with_ranks(one, fitted[several[0]]) for label, one in fitted.items()}
        fitted |= {label: one for label, one in alone.items() if label not in several}
    return CostModel(machine, fitted)


def _with_ranks(alone: Fitted, other: Fitted) -> Fitted:
    """A model of one rank, with what ranks of another algorithm cost: they send as much."""
    merged = {
        phase: {**found, **{name: other.coefficients[phase][name] for name in BETWEEN & {*found}}}
        for phase, found in alone.coefficients.items()
    }
    return replace(alone, coefficients=merged)


def errors(model: CostModel, points: Iterable[Point]) -> list[float]:
    """Predicted over measured seconds, less 1, of each point."""
    return [predicted(model, p).seconds / p.seconds - 1 for p in points]


def predicted(model: CostModel, point: Point) -> Prediction:
    """The point's size, by the model."""
    size = point.size
    sizes = size.clients, size.cohort, size.ranks, size.threads
    return model.predict(point.algorithm, *sizes, rounds=size.rounds)


def _fitted(points: Sequence[Point], machine: Machine) -> Fitted:
    # A chunk below the rank's share of its cohort is what memory allows.
    held = [p.size.chunk for p in points if p.size.chunk < p.size.cohort / p.size.ranks]
    chunk = int(np.median(held)) if held else None
    points = [replace(p, size=replace(p.size, chunk=chunk or p.size.cohort)) for p in points]
    coefficients = _coefficients(points, [_terms(p, machine) for p in points])
    last = points[-1]
    work = replace(
        last.work,
        samples=float(np.mean([p.work.samples for p in points])),
        steps=float(np.mean([p.work.steps for p in points])),
    )
    return Fitted(work, last.each, chunk, coefficients, _memory(points))


def _memory(points: Sequence[Point]) -> dict[str, float]:
    rows = [memory_terms(p.size, p.work, p.each) for p in points]
    host = np.array([p.host for p in points])
    found = _solve(np.array([list(row.values()) for row in rows]), host, 1 / host)
    return {name: float(value) for name, value in zip(rows[0], found, strict=True)}


def _terms(point: Point, machine: Machine) -> Mapping[str, Mapping[str, float]]:
    rates = machine.of(point.size.threads * point.size.ranks)
    return terms(point.size, point.work, machine, rates)


def _coefficients(
    points: Sequence[Point], rows: Sequence[Mapping[str, Mapping[str, float]]]
) -> Coefficients:
    """Those of all phases at once: rounds should add up, and so, less strictly, each phase.

    Phases are timed in fewer rounds than the round as a whole.
    """
    seen = [n for n in PHASE_NAMES if any(p.phases.get(n, 0.0) for p in points)]
    names = [(phase, term) for phase in seen for term in rows[0][phase]]
    whole = np.array([[row[phase][term] for phase, term in names] for row in rows])
    parts = [whole * [phase == one for phase, _ in names] for one in seen]
    seconds = np.array([p.seconds for p in points])
    values = [p.phases.get(one, 0.0) for one in seen for p in points]
    trust = [1.0] + [PARTS] * len(seen)
    weights = np.concatenate([t / seconds for t in trust])
    found = _solve(np.concatenate([whole, *parts]), np.array([*seconds, *values]), weights)
    made: Coefficients = {phase: dict.fromkeys(rows[0][phase], 0.0) for phase in PHASE_NAMES}
    for (phase, term), value in zip(names, found, strict=True):
        made[phase][term] = float(value)
    return made


def _solve(table: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The coefficients. Rows that are far off, which something held up, weigh less each time."""
    from scipy.optimize import nnls

    scale = np.linalg.norm(table * weights[:, None], axis=0)  # terms of unlike sizes
    used, found = scale > 0, np.zeros(table.shape[1])
    trust = np.ones(len(table))
    for _ in range(ROBUST if used.any() else 0):
        weighed = (weights * trust)[:, None] * table[:, used] / scale[used]
        found[used] = nnls(weighed, values * weights * trust)[0] / scale[used]
        off = np.abs(table @ found - values) * weights
        trust = np.sqrt(np.minimum(1.0, USUAL / np.maximum(off, USUAL)))
    return found


def _sum(coefficients: Mapping[str, float], values: Mapping[str, float]) -> float:
    return sum(coefficients.get(name, 0.0) * value for name, value in values.items())
