"""Small rounds in which nothing happens but training and the mean: prepared once, run again.

Where neither clients nor server keep rows, and no hook does anything, a round of so many clients
takes the same steps in the same buffers as one before: it draws, runs recorded steps and the
recorded mean, and looks at what came out. To the bit it is `Engine.round`, which everything else
takes: other algorithms, code of the user's, rounds after which something is not finite.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .aggregation import is_finite
from .ahead import WORTH
from .batches import Packing
from .design import Design
from .engine import Engine
from .executor import Descent
from .frozen import changed
from .kernels.schedule import Lines, WrittenBatches
from .mean_passes import LATEST, Ending, RecordedPass
from .phases import phase
from .random import Ints
from .round_lines import packed_lines
from .round_records import Outcome, Work
from .rounds import Drawn
from .rounds_once import RoundsOnce
from .state import ServerState
from .steady_runs import repeats


@dataclass(frozen=True)
class Who:
    """A cohort in processing order: ids, sizes, steps [C]; where its batches lie."""

    ids: Ints
    sizes: Ints
    packing: Packing
    lines: Lines


@dataclass(frozen=True)
class Prepared:
    """What rounds of so many clients repeat, from one server state to the other.

    squares     of each region those of the clients' updates, square: of the mean's trained region
    losses [C]  summed over the steps; counts [n], samples of each batch
    """

    before: ServerState
    after: ServerState
    models: Tensor
    epochs: Ints
    batches: WrittenBatches
    descent: Descent
    mean: RecordedPass
    squares: list[np.ndarray]
    square: np.ndarray
    losses: Tensor
    counts: np.ndarray


class SteadyRounds:
    """Of one simulation, in which `repeats`."""

    def __init__(self, engine: Engine, design: Design, schedule: RoundsOnce) -> None:
        self._engine, self._design, self._schedule = engine, design, schedule
        self._drawn = design.schedule.drawing if repeats(engine, design) else None
        self._held: dict[Hashable, Prepared] = {}
        self._weights: tuple[bytes, Tensor] = b"", torch.empty(0)

    def round(self, t: int, lr: float) -> tuple[int, Outcome] | None:
        """(clients, what round `t` did), which may be committed. None where it has to be
        `Engine.round`: nothing is changed then that this one reads."""
        drawn = self._drawn
        if drawn is None:
            return None
        with phase("schedule"):
            who = self._who(drawn, t)
            drawn_ahead = who.lines.total * who.lines.width >= WORTH
            if drawn_ahead or len(who.ids) > self._engine.trainers.chunk:
                return None
            found = self._found(who, t, lr)
            whose = who.ids, who.sizes, found.epochs
            found.batches.write(drawn.seed, t, who.lines, *whose)
        self._engine.trainer.update.factors(lr, found.models)
        found.after.follow(found.before)
        with phase("forward_backward"):
            found.descent.run(who.packing.offsets)
        with phase("aggregate"):
            outcome = self._ended(found, who)
        if outcome is None:  # others of this run are likely to follow, and would be trained twice
            self._drawn = None
            return None
        return len(who.ids), outcome

    @staticmethod
    def _who(drawn: Drawn, t: int) -> Who:
        ids = drawn.clients(t)
        sizes = drawn.sizes[ids]
        steps = drawn.cut.steps(sizes)
        if steps.min() != steps.max():
            order = np.argsort(-steps, kind="stable")
            ids, sizes, steps = ids[order], sizes[order], steps[order]
        packing = Packing.of(steps)
        return Who(ids, sizes, packing, packed_lines(len(ids), packing, drawn.width))

    def _found(self, who: Who, t: int, lr: float) -> Prepared:
        """What was prepared for such a round, or is now."""
        before, trainer = self._engine.state, self._engine.trainer
        models = trainer.live.active(len(who.ids)).models
        key = len(who.ids), trainer.gradient.radius(t), id(before), id(models)
        found = self._held.get(key)
        if found is None or found.batches.room < who.lines.total:  # it holds what the ids are of
            if len(self._held) >= LATEST:
                del self._held[next(iter(self._held))]
            found = self._held[key] = self._made(who, t, lr, models)
        return found

    def _made(self, who: Who, t: int, lr: float, models: Tensor) -> Prepared:
        engine, drawn = self._engine, self._drawn
        assert drawn is not None
        data, before, after = engine.data, engine.state, engine.next
        clients, lines = len(who.ids), who.lines
        work = Work(t, self._schedule.round(t), lr, drawn.epochs, data.num_clients)
        rows = torch.empty(lines.total, lines.width, dtype=torch.int64)
        descent = engine.trainer.prepared(engine.gathered(work), rows)
        own = descent.rows, descent.count, data.offsets, data.order
        mean = engine.mean.recorded(models, before.row, Ending(engine.rule, before, after))
        return Prepared(
            before,
            after,
            models,
            np.full(clients, drawn.epochs),
            WrittenBatches(*own, drawn.width, drawn.whole),
            descent,
            mean,
            [each.numpy() for each, _ in mean.squares],
            mean.squares[0][1].numpy(),
            descent.total[0, :clients],
            descent.count.numpy(),
        )

    def _ended(self, found: Prepared, who: Who) -> Outcome | None:
        """The server's part; None where something is not finite."""
        engine, begin = self._engine, time.perf_counter()
        found.mean.weights.copy_(self._weighed(who.sizes))
        found.mean.plan.run_whole()
        if not math.isfinite(sum(float(each.sum()) for each in found.squares)):
            return None
        tensors = found.after.tensors().values()
        if not all(is_finite(t, float(t.dot(t)), engine.backend) for t in tensors):
            return None
        samples = int(found.counts[: who.lines.total].sum())
        losses, norm = float(found.losses.sum()), float(found.square) ** 0.5
        norms, after = float(engine.mean.norm_sum()), changed(engine.committed, server=found.after)
        seconds = time.perf_counter() - begin
        return Outcome(losses / max(samples, 1), norm, norms, samples, (), True, after, seconds)

    def _weighed(self, sizes: Ints) -> Tensor:
        """The clients' weights; most cohorts are of the sizes of the one before."""
        key = sizes.tobytes()
        if self._weights[0] != key:
            by_samples = self._design.options.aggregation == "samples"
            numbers = torch.from_numpy(sizes.astype(np.float64))
            self._weights = key, self._design.algorithm.weights(numbers, by_samples)
        return self._weights[1]
