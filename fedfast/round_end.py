"""How a round ends: client states and server rows from the sums, the server's step, the outcome."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from . import kernels
from .aggregation import Ending, is_finite
from .algorithms._return_checks import reweighed
from .algorithms.hooks import Cohort
from .cohort_pass import joined
from .engine_parts import EngineParts
from .frozen import changed
from .metrics.agreement.readings import Readings
from .phases import timed
from .round_records import Outcome, Trained
from .state import ServerState
from .transfers import arrays_of


def ending_of(engine: EngineParts, state: ServerState) -> Ending:
    """The server's step from `state` to the engine's next one."""
    return Ending(engine.rule, state, engine.next)


@timed("aggregate")
def concluded(engine: EngineParts, done: Trained, models: Tensor) -> Outcome | None:
    """The server's part and what came of the round, from `models` [C, S] in processing order.

    None where a model that was looked at late is not finite.
    """
    begin = time.perf_counter()
    _conclude(engine, done, models)
    return _outcome(engine, done, begin)


def _conclude(engine: EngineParts, done: Trained, models: Tensor) -> None:
    """The server's part: `next` from the state before."""
    tally, sums, cohort, sent = done.tally, done.sums, done.cohort, done.sent
    algorithm, after, numbers = engine.algorithm, engine.next, tally.joined()
    # Before the mean is reweighed: the clients' states follow from what they did themselves.
    sums.into(after, len(cohort) - len(tally.diverged))
    if engine.watch is not None:
        engine.watch.summed(engine.mean.trained)
    starts = joined(tally.start_losses) if tally.start_losses else None
    losses = joined(tally.train_losses)
    cohort = changed(cohort, train_loss=losses, start_loss=starts, numbers=dict(numbers))
    if algorithm.server.whole:
        numbers |= _reweigh(engine, cohort, sent, models)
        cohort = changed(cohort, numbers=dict(numbers))
        engine.mean.end(sent, ending_of(engine, done.state))
    engine.layout.settle(after.row)
    algorithm.settle(after, cohort, numbers)
    added = [(after.rows[name], c) for name, c in algorithm.added().items()]
    if added:
        w = after.w[None]
        kernels.step(w, added, -1.0, out=w, backend=engine.backend)


def _reweigh(engine: EngineParts, cohort: Cohort, sent: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """The mean anew, by weights that depend on all models; returns the rule's numbers."""
    trained, rule = engine.visible.trained, engine.algorithm.server
    models, start = rows[:, :trained], sent[:trained]
    answer = rule.reweigh(models, start, cohort, engine.visible, engine.backend)
    weights, numbers = reweighed(rule, answer, cohort, engine.visible)
    engine.mean.replace(models, weights, start)
    return dict(numbers)


def _outcome(engine: EngineParts, done: Trained, begin: float) -> Outcome | None:
    """What the host reads of a round, in one wait; None where a model was not finite."""
    tally, mean = done.tally, engine.mean
    rows = [t.view(-1) for t in engine.next.tensors().values()]  # [S], [trained], or any shape
    of_rows = (row.dot(row) for row in rows)
    of_mean = mean.total(), mean.square, mean.norm_sum()
    pending, readings = engine.next.pending, _readings(engine, done)
    figures = tally.summed_loss, *of_mean, *of_rows, *pending.values()
    found = arrays_of(*figures, *readings.tensors)
    numbers, measured = [float(x) for x in found[: len(figures)]], found[len(figures) :]
    loss, total, square, norm_sum, *squares = numbers
    if not math.isfinite(total):
        return None
    engine.next.scalars.update(zip(pending, squares[len(rows) :], strict=True))
    norm = square**0.5
    known = zip(rows, squares[: len(rows)], strict=True)
    finite = math.isfinite(norm) and all(is_finite(*row, engine.backend) for row in known)
    after = engine.committed
    # A diverged client counts as one that did not move where the run goes on without it.
    tolerant = engine.options.on_divergence == "continue"
    if finite and (tolerant or not tally.diverged):
        after = changed(after, server=engine.next, clients=done.clients, owners=done.owners)
    columns = _columns(engine, readings, measured, after.server is engine.next)
    diverged = tuple(tally.diverged)
    seconds, average = time.perf_counter() - begin, loss / max(tally.samples, 1)
    norms = norm, norm_sum
    return Outcome(average, *norms, tally.samples, diverged, finite, after, seconds, columns)


def _readings(engine: EngineParts, done: Trained) -> Readings:
    """What the run's metrics ask of a round."""
    if engine.watch is None:
        return Readings(())
    who = engine.algorithm, done.cohort, done.state, engine.next, done.sent, engine.mean.trained
    return engine.watch.readings(*who)


def _columns(
    engine: EngineParts, readings: Readings, found: Sequence[np.ndarray], counts: bool
) -> Mapping[str, float]:
    """The columns of the run's metrics; of a round that came to nothing they are nan."""
    if engine.watch is None:
        return {}
    return readings.columns(found) if counts else engine.watch.nothing()
