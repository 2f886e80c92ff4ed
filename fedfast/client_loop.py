"""The client loop: K clients' local steps over the run's few live buffers.

    source = the global row (first step: read in place, no broadcast copy), then w
    g = gradient(source), or where the optimizer ascends to from there
    w = step(source, direction)

Clients come with their step counts descending, so those still training at any step are a prefix of
every buffer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .algorithms._hook_checks import overrides
from .algorithms.hooks import Clients
from .algorithms.optimizers import Optimizer
from .batches import ChunkBatches, Draws, Minibatch, Packing
from .correction import renewal_of
from .design import Design
from .executor import Descent, Executor, Fold, LocalStep
from .fusion_rules import fusions_for, recorder_for, tuning_recorder
from .input_pipeline import InputPipeline
from .kernels.packed import add_losses
from .kernels.packing import Packed
from .live_buffers import LiveBuffers
from .local_gradient import LocalGradient
from .local_update import LocalUpdate, steady
from .phases import timed
from .programs.cuda_graph import Recorder
from .recorded_steps import RecordedSteps
from .row_updates import PlannedAscent, all_of, fills_of
from .step_draws import seeds, seeds_of
from .transfers import sent_to


class LocalTrainer:
    """Owns the live buffers of a run and trains a chunk of clients at a time."""

    def __init__(
        self, design: Design, executor: Executor, pipeline: InputPipeline, chunk: int
    ) -> None:
        self.options, self.algorithm, self.layout = design.options, design.algorithm, design.layout
        self.executor, self.pipeline = executor, pipeline
        can, clip = executor.capabilities, design.options.clip_norm
        self.live = LiveBuffers(self.layout, self.algorithm, chunk, pipeline.device)
        self.fusions = fusions_for(self.algorithm, clip, can)
        self.gradient = LocalGradient(self.algorithm, executor, self.live, self.fusions)
        self.update = LocalUpdate(design, executor, self.live, self.fusions)
        self.replay = self._recorded(recorder_for(self.algorithm, can), self.algorithm.local.ends)
        self._draws = overrides(self.algorithm.local, "drawn", Optimizer)
        tunes = self.algorithm.fine_tune is not None
        self.tuning = self._recorded(tuning_recorder(can) if tunes else None, False)

    def train(
        self,
        start: Tensor,
        batches: ChunkBatches,
        at: Clients,
        everything: ChunkBatches | None = None,
        renew: bool = False,
    ) -> Tensor:
        """Train a chunk from the row `start` [S]; the models are `live.w[:K]` afterwards.

        at          the chunk as the algorithm sees it, with its state gathered
        everything  all local samples once, where the algorithm wants the full gradient
        renew       whether the drift's rows may be written behind each client's last step
        Returns the summed losses [2, K] float64: each step's mean loss times its samples; once.
        """
        models, trained = self.live.active(len(at)).models, self.layout.trained
        if models.shape[1] > trained:
            models[:, trained:] = start[trained:]
        self.executor.count_batches(models, batches)
        if self.live.m is not None:
            self.live.m.zero_()
        if everything is not None:
            at.start_loss = self._over_all(everything, at)
        at.w = self._starts(at)
        lr = self.algorithm.rate(at)
        at_once = self._at_once(batches) and steady(at, lr)
        recorded = self.gradient.recorded(at) if at_once else None
        at.recorded = recorded is not None
        active = batches.active
        at.going = active[0]
        self.algorithm.begin(at)
        if active[0] < len(at):
            models[active[0] :] = start
        if at_once and self.gradient.at_once(recorded):
            # Who makes no step has no last one; a launch has no rows but the model's.
            renew = renew and active[0] == len(at) and not self.fusions.resident
            return self._all_steps(at, batches, lr, recorded, renew)
        return self._step_by_step(start, batches, at, active)

    def read(self, x: Tensor, y: Tensor) -> None:
        """Train on samples x, y from now on; see `InputPipeline.read`."""
        held = self.pipeline.plain
        if held.x is not x or held.y is not y:
            for steps in (self.replay, self.tuning):
                if steps is not None:
                    steps.forget()
        self.pipeline.read(x, y)

    def _step_by_step(
        self, start: Tensor, batches: ChunkBatches, at: Clients, active: list[int]
    ) -> Tensor:
        if self.replay is not None:
            return self._repeated(self.replay, start, batches, at, active)
        w, losses = self.live.active(len(at)).w, self.live.losses
        total = torch.zeros(2, len(at), dtype=torch.float64, device=w.device)
        fold, batches = self.update.alike(at), batches.to(w.device)
        for s, (count, going) in enumerate(zip(active, [*active[1:], 0], strict=True)):
            now = at.prefix(count)
            now.step, now.going, now.fresh = s, going, s == 0
            batch = self.batch(s, count, batches)
            now.noise = self._drawn(now, batches, batches.packing.at(s, count))
            self._step(now, batch, fold)
            at.w = w
            add_losses(total[:, :count], losses[:count], batch.count)
        return total

    def _repeated(
        self,
        steps: RecordedSteps,
        start: Tensor,
        batches: ChunkBatches,
        at: Clients,
        active: list[int],
    ) -> Tensor:
        """The same, by steps that are recorded once for each number of clients."""
        rows, fold = self.live.active(len(at)), self.update.alike(at)
        rate = self.update.rate(at, self.algorithm.rate(at))
        drawn = self._drawn(at, batches, slice(0, batches.packing.lines), there=False)
        chunk = steps.begin(start, batches, at, drawn)

        def step(now: Clients, batch: Minibatch) -> None:
            if not now.fresh:
                now.w = self.live.active(len(now)).w
            self._step(now, batch, fold, None if rate is None else rate[: len(now)])

        for s, (count, going) in enumerate(zip(active, [*active[1:], 0], strict=True)):
            chunk.run(s, count, going, step)
            at.w = rows.w
        for name in self.algorithm.local.step_values:
            at.values[name].copy_(chunk.at.values[name])
        return steps.total[:, : len(at)].clone()

    def _drawn(
        self, at: Clients, batches: ChunkBatches, lines: slice, there: bool = True
    ) -> Tensor | None:
        """What the optimizer draws for these batches; there: on the device."""
        if not self._draws:
            return None
        packing, host = batches.packing, batches.drawn or batches
        whose = packing.client[lines], packing.step[lines], host.count[lines]
        found = self.algorithm.local.drawn(at, *whose, batches.rows.shape[1])
        return sent_to(found, at.w.device) if there and found is not None else found

    def _at_once(self, batches: ChunkBatches) -> bool:
        """Whether nothing but folded steps happens between the first and the last."""
        planned = self.fusions.rounds and self.replay is None
        return (planned or self.fusions.resident) and batches.draws is None

    def _all_steps(
        self,
        at: Clients,
        batches: ChunkBatches,
        lr: float | Tensor,
        recorded: PlannedAscent | None,
        renew: bool,
    ) -> Tensor:
        """Client after client instead of step after step; the same to the bit."""
        models = self.live.active(len(at)).models
        step = self._whole_step(at, lr, recorded, renew)
        total = self.executor.descend(step, models, self.pipeline.plain, batches)
        at.renewed = step.end is not None
        return total

    def prepared(self, at: Clients, rows: Tensor) -> Descent:
        """See `Executor.prepared`: all steps of the chunk, from `at.start`."""
        models = self.live.active(len(at)).models
        at.w = at.start.expand_as(models[:, : self.layout.trained])
        step = self._whole_step(at, self.algorithm.rate(at), None, False)
        return self.executor.prepared(step, models, self.pipeline.plain, rows)

    def _whole_step(
        self, at: Clients, lr: float | Tensor, recorded: PlannedAscent | None, renew: bool
    ) -> LocalStep:
        """What is done at each step, and around a client's."""
        rows = self.live.active(len(at))
        added = self.update.correction(at)
        fold, correct = self.update.fold(lr, at.w, added), None
        if added and added.shared:  # of one row nothing is done client by client
            added.apply(self.options.backend)
        elif added and added.terms:
            correct = added
        ascent, at.w = self.gradient.ascent(at, recorded), rows.w
        begin, end = fills_of(*(recorded.begin if recorded else ())), None
        if renew:
            renewal = renewal_of(self.algorithm.drift.renewal(at), self.live.shares)
            end = all_of(renewal, *(recorded.end if recorded else ()))
        return LocalStep(ascent=ascent, fold=fold, correct=correct, begin=begin, end=end)

    def _starts(self, at: Clients) -> Tensor:
        """The models before the first step: their own where the algorithm gives them some."""
        own = self.live.active(len(at)).w
        return own if self.algorithm.starts(at, own) else at.start.expand_as(own)

    def _over_all(self, everything: ChunkBatches, at: Clients) -> Tensor:
        """See `LocalGradient.over_all`."""
        # Who is done repeats a sample, with no weight; twice, for BatchNorm takes no single one.
        least, count = min(2, everything.rows.shape[1]), everything.count
        padded = replace(everything, count=count.where(count > 0, least)).to(at.w.device)
        lines = [everything.packing.at(s, n) for s, n in enumerate(everything.active)]
        sent = sent_to(count, at.w.device)
        counts = (sent[part] for part in lines)
        batches = (self.batch(s, n, padded) for s, n in enumerate(padded.active))
        return self.gradient.over_all(at, batches, counts)

    def _step(
        self, at: Clients, batch: Minibatch, fold: Fold | None, lr: float | Tensor | None = None
    ) -> None:
        """One step; lr: the learning rate [K] where that is known."""
        rows = self.live.active(len(at))
        if fold is not None:
            self.gradient.take(at, batch, rows.w, fold.first(at.w))
        else:
            self.gradient.take(at, batch, at.g)
            self.update.descend(at, self.update.step_rate(at) if lr is None else lr, rows)
        if self.update.watched:
            self.update.after_step(at, rows.w)

    @timed("gather")
    def batch(self, s: int, active: int, batches: ChunkBatches) -> Minibatch:
        """The samples of step `s` of the first `active` clients."""
        lines, device = batches.packing.at(s, active), self.pipeline.device
        rows, draws = sent_to(batches.rows[lines], device), batches.draws
        if draws is not None:
            draws = Draws(draws.offset[lines], draws.flip[lines])
        seeds = None if batches.seeds is None else sent_to(batches.seeds[lines], device)
        count = sent_to(batches.count[lines], device)
        made = self.executor.batch(self.pipeline.source(draws), rows, count, seeds)
        if not self.executor.capabilities.runs_module:
            return made
        return replace(made, known=batches.numbers(lines))

    def _recorded(self, recorder: Recorder | None, endings: bool) -> RecordedSteps | None:
        if recorder is None:
            return None
        given = recorder, self.live.losses, endings, self._fetch
        return RecordedSteps(*given, self.options.backend)

    def _fetch(self, packed: Packed) -> Minibatch:
        return self.executor.fetch(self.pipeline.plain, packed)

    def seeds(self, round: int, clients: np.ndarray, packing: Packing) -> Tensor | None:
        """A 63-bit seed for the random layers of each packed batch of the `clients` [K], on the
        host; None for modules without any.

        Both passes of SAM draw the same dropout masks.
        """
        if not self.executor.random:
            return None
        return seeds((self.options.seed, round), clients, packing)

    def seeds_at(self, round: int, clients: np.ndarray, step: int) -> Tensor | None:
        """The same of a batch of each client, counted as its step `step`."""
        if not self.executor.random:
            return None
        return seeds_of((self.options.seed, round), clients, np.full(len(clients), step))
