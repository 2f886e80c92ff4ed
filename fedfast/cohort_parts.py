"""What a `Cohort` is made of once it has seen samples, and a call's way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .build import Components, build, memory_plan
from .client_samples import ClientSamples
from .cohort_call import Batches, Call, epoch_counts, rates, steps_of
from .cohort_options import CohortDesign, CohortOptions, few_of
from .cohort_samples import CallSamples
from .cohort_state import StateRows
from .cohort_update import CohortUpdate, Room, Summed, TrainedRows
from .data import FederatedData
from .engine import Engine
from .kernels.plan import forget_recording
from .model_inspection import single_sample_trouble
from .random import Ints
from .round_loop import training
from .round_records import Trained, Work
from .state import ServerState


@dataclass(frozen=True)
class CohortParts:
    """Design, engine and the memory that calls share.

    own    the cohort's own samples, None where they come with each call
    given  [S], memory for a state that comes with a call; ordered: for models in the order of ids
    """

    design: CohortDesign
    parts: Components
    own: ClientSamples | None
    call: CallSamples
    rows: StateRows
    given: Tensor
    ordered: Room

    @classmethod
    def of(cls, options: CohortOptions, samples: FederatedData) -> CohortParts:
        """Made from the cohort's own samples, or from those of a first call."""
        few = few_of(samples) if options.data is None else samples
        design, own = CohortDesign(options, few), None
        parts = build(design)
        parts.engine.models.wanted = True
        parts.engine.clients.widen(options.population or samples.num_clients)
        if options.data is not None:
            data, offsets = design.data, samples.offsets.to(design.device)
            own = ClientSamples(replace(data, offsets=offsets, sizes=samples.sizes))
        rows = StateRows(design.layout, design.module, design.device)
        given = torch.zeros_like(design.row)
        return cls(design, parts, own, CallSamples(design), rows, given, Room())

    @property
    def engine(self) -> Engine:
        """Rounds."""
        return self.parts.engine

    @cached_property
    def alone(self) -> str:
        """Why the model cannot be trained on a single sample, "" where it can."""
        return single_sample_trouble(self.design.module, self.design.trial[:1])

    def described(
        self, t: int, ids: Ints, sizes: Ints, batches: object, lr: object, epochs: object
    ) -> Call:
        """What a call in round `t` asks for, checked; arguments as in `Cohort.train`."""
        given, algorithm = self.design.options, self.design.algorithm
        if batches is not None and epochs is not None:
            raise ValueError("epochs: expected None where batches are given")
        count = epoch_counts(epochs, given.local_epochs, len(ids))
        algorithm.check_run(int(np.max(count)), given.batch_size)
        written = None if batches is None else steps_of(ids, sizes, batches)
        drawn = Batches(ids, sizes, count, given.seed, given.batch_size, given.drop_last, written)
        who = drawn.single(algorithm.drift.full_gradient)
        if who and self.alone:
            raise ValueError(
                f"batch_size: {who} has a batch of one sample, on which the model cannot be "
                f"trained ({self.alone}); drop_last=True leaves such batches out"
            )
        rate = rates(lr, self.design.lr(t) if lr is None else 0.0, len(ids))
        return Call.of(drawn, t, rate, algorithm.server.rehearses)

    def train(self, call: Call, samples: ClientSamples, before: ServerState) -> Trained | None:
        """Local steps of those who take any; None where nobody does. Nothing is committed."""
        plan, active = call.plan, call.active
        self._make_room(len(call.ids), plan.width, int(plan.steps.max(initial=0)))
        forget_recording()
        self.parts.executor.pool.wait()
        if not len(active):
            return None
        population = self.engine.clients.population
        work = Work(call.t, call.part(plan), call.lr, call.epochs, population, call.rehearsal)
        with training(self.parts):
            self.engine.read(samples)
            done = self.engine.train(work, before)
        if done.tally.diverged and samples is not self.own:
            self.call.check(samples)  # values not finite are the likeliest cause
        return done

    def update(self, call: Call, done: Trained | None, before: ServerState) -> CohortUpdate:
        """What the training did, in the order of the call's ids."""
        many, position = len(call.ids), np.arange(len(call.ids))
        losses = torch.full((2, many), torch.nan, dtype=torch.float64)
        start = (before.row if done is None else done.sent).clone()
        if done is None:
            rows, diverged = start.expand(many, -1).clone(), tuple[int, ...]()
        else:
            first, found = (
                call.active[done.order],
                (done.tally.train_losses, done.tally.step_losses),
            )
            position = np.concatenate([first, np.flatnonzero(call.plan.steps == 0)])
            losses[:, torch.from_numpy(first)] = torch.stack([torch.cat(t) for t in found]).cpu()
            rows, diverged = self.engine.rows_of(done, many), tuple(done.tally.diverged)
        sizes, steps = torch.from_numpy(call.sizes), torch.from_numpy(call.plan.steps)
        place = _place(position, rows.device)
        summed = None if done is None else self._summed(done)
        held = TrainedRows(self.rows, self.engine.backend, rows, place, self.ordered, summed)
        ids, figures = torch.from_numpy(call.ids), (losses[0], losses[1], sizes, steps)
        return CohortUpdate(ids, start, *figures, diverged, held)

    def _summed(self, done: Trained) -> Summed:
        return Summed(done.cohort.weights, self.engine.mean.acc.clone())

    def step(self, done: Trained, rows: Tensor) -> None:
        """The server's part from the models [C, S] in processing order, committed."""
        with training(self.parts):
            outcome = self.engine.step(done, rows[: len(done.cohort)])
        if not outcome.finite:
            raise ArithmeticError("step: the new global model is not finite; nothing has changed")
        self.engine.committed = outcome.after

    def _make_room(self, clients: int, width: int, steps: int) -> None:
        """Buffers for so many clients at once, where memory has it, and batches as wide.

        More steps change what the next plan counts; their tables grow by themselves.
        """
        design, engine = self.design, self.engine
        design.longest = max(steps, design.longest)
        if clients <= design.cohort and width <= design.width:
            return
        design.cohort, design.width = max(clients, design.cohort), max(width, design.width)
        engine.trainers.forget()
        engine.trainers.chunk = memory_plan(design, self.parts.rows).chunk
        engine.batches.width, engine.models.least = design.width, design.cohort


def _place(position: Ints, device: torch.device) -> Tensor | None:
    """Where each client is in the processing order; None where that is the order of the ids."""
    if (position[:-1] < position[1:]).all():
        return None
    return torch.from_numpy(np.argsort(position)).to(device)
