"""One pass over a round's cohort: chunks of K clients train, and are added up."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .aggregation import Ending, Mean, RoundSums
from .algorithms import Algorithm
from .algorithms.hooks import Clients, Cohort, HostNumbers, NamedRows, TrainedLayout
from .batches import ChunkBatches
from .client_loop import LocalTrainer
from .client_samples import ClientSamples
from .client_sampling import Round
from .clients import ClientState
from .frozen import changed
from .gradient_sampler import GradientSampler
from .hook_calls import HookCalls
from .kernels.placed import PlacedRows
from .memory import Halving
from .round_batches import RoundBatches
from .running_sum import Place
from .state import ServerState
from .transfers import sent_to

Shared = TypeVar("Shared", Tensor, float | Tensor, int | Tensor)


def _own(number: Shared, part: slice) -> Shared:
    """A number of all clients, or those of some of them: of all, as they are."""
    if not isinstance(number, Tensor) or part == slice(0, len(number)):
        return number
    return number[part]


def joined(parts: list[Tensor]) -> Tensor:
    """Those of all chunks. [C]"""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _per_sample(sums: Tensor, seen: np.ndarray) -> Tensor:
    """Means over the samples that clients saw, 0 for those that saw none. [K]"""
    counts = np.maximum(seen, 1)
    if sums.device.type == "cpu":  # NumPy's small quotients take a third of torch's time
        return torch.from_numpy(sums.numpy() / counts)
    return sums / sent_to(torch.from_numpy(counts), sums.device)


@dataclass
class Tally:
    """What a pass over the cohort collects, chunk by chunk."""

    losses: list[Tensor] = field(default_factory=list)
    step_losses: list[Tensor] = field(default_factory=list)
    train_losses: list[Tensor] = field(default_factory=list)
    start_losses: list[Tensor] = field(default_factory=list)
    numbers: list[dict[str, Tensor]] = field(default_factory=list)
    diverged: list[int] = field(default_factory=list)
    samples: int = 0

    @property
    def summed_loss(self) -> Tensor:
        """Over the samples seen, float64 []."""
        return joined(self.losses).sum()

    def joined(self) -> dict[str, Tensor]:
        """Numbers of all chunks, [C] by name."""
        names = self.numbers[0] if self.numbers else ()
        return {name: torch.cat([part[name] for part in self.numbers]) for name in names}


class CohortModels:
    """All models of a cohort of more than a chunk, for those who read them at its end. [C, S]

    wanted  whether anybody does
    least   clients there is to be room for, some of whom may not train
    """

    def __init__(self, row: Tensor, wanted: bool) -> None:
        self.wanted, self.least, self._models = wanted, 0, row.new_zeros(0, len(row))

    def store(self, part: slice, models: Tensor, cohort: int) -> None:
        """Keep a chunk's models until the cohort, of so many clients, is complete."""
        if len(self._models) < max(cohort, self.least):
            self._models = models.new_zeros(max(cohort, self.least), models.shape[1])
        if self._models.data_ptr() != models.data_ptr():
            self._models[part] = models

    def first(self, clients: int) -> Tensor:
        """The models of so many clients."""
        return self._models[:clients]


@dataclass(frozen=True)
class RunParts:
    """What all rounds of a run share."""

    trainers: Halving[LocalTrainer]
    data: ClientSamples
    algorithm: Algorithm
    layout: TrainedLayout
    batches: RoundBatches
    hooks: HookCalls
    mean: Mean
    models: CohortModels


@dataclass(frozen=True)
class CohortPass:
    """Trains a cohort in chunks and sums up; a rehearsal (no sums) changes no client state.

    order   positions in `plan` of the cohort's clients
    sent    [S], the model that clients receive
    server  the state they are shown; clients: theirs, which the pass writes
    ending  the server's step at the end of the mean, if it follows right away
    part    positions in the cohort, whole leaves of its sums, if others train the rest
    """

    run: RunParts
    plan: Round
    order: np.ndarray
    cohort: Cohort
    sent: Tensor
    server: ServerState
    clients: ClientState
    sums: RoundSums | None = None
    ending: Ending | None = None
    part: slice | None = None
    tally: Tally = field(default_factory=Tally)

    @property
    def span(self) -> tuple[int, int]:
        """[first, last) position in the cohort."""
        return (0, len(self.order)) if self.part is None else (self.part.start, self.part.stop)

    def train(self) -> Tally:
        """All chunks, one after another."""
        begin, end = self.span
        while begin < end:
            at = self._chunk(begin)
            part = slice(begin, begin + len(at))
            self._add_up(at, part)
            begin = part.stop
            del at  # its views would keep the live buffers where the next chunk must halve them
        return self.tally

    def _chunk(self, begin: int) -> Clients:
        """The next K clients, trained."""

        def work(trainer: LocalTrainer, chunk: int) -> tuple[Clients, Tensor, int]:
            end = min(begin + chunk, self.span[1])
            return self._trained(trainer, begin, self.order[begin:end])

        at, losses, samples = self.run.trainers.use(work)
        self.tally.losses.append(losses[0])
        self.tally.step_losses.append(losses[1] / at.steps)
        self.tally.samples += samples
        if at.train_loss is not None:
            self.tally.train_losses.append(at.train_loss)
        if at.start_loss is not None:
            self.tally.start_losses.append(at.start_loss)
        return at

    def _trained(
        self, trainer: LocalTrainer, begin: int, chosen: np.ndarray
    ) -> tuple[Clients, Tensor, int]:
        """(a chunk after its steps, its summed losses [2, K], how many samples it saw)."""
        run, t = self.run, self.cohort.round
        batches = run.batches(trainer, t, self.plan, chosen)
        at = self.gathered(trainer, slice(begin, begin + len(chosen)))
        held = run.hooks.guarded(at, {})
        # What is sent is what they end with, and nobody else's code looks at rows in between.
        renew = self.sums is not None and not (run.hooks.uploads or run.hooks.foreign)
        losses = trainer.train(self.sent, batches, at, self._everything(trainer, at), renew)
        held.check(run.algorithm, "the hooks of local steps", "Write to at.own or at.w.")
        seen = batches.seen.numpy()
        mean = _per_sample(losses[0], seen)
        at = changed(at, train_loss=mean)  # recorded steps may hold on to the other
        del at.g  # fused steps leave it half written: no hook after them can take it for one
        return at, losses, int(seen.sum())

    def _everything(self, trainer: LocalTrainer, at: Clients) -> ChunkBatches | None:
        """All local samples, where the algorithm wants losses or gradients over them."""
        algorithm = self.run.algorithm
        asked = any(part.start_losses for part in algorithm.components)
        if not (algorithm.drift.full_gradient or asked):
            return None
        return self.run.batches.everything(trainer, at.round, at.ids, self.plan.width)

    def gathered(self, trainer: LocalTrainer, part: slice) -> Clients:
        """A chunk of the cohort with its state."""
        run, cohort, live = self.run, self.cohort, trainer.live
        ids, start = cohort.ids[part], self.sent[: run.layout.trained]
        count = len(ids)
        own = NamedRows({name: rows[:count] for name, rows in live.own.items()})
        who = torch.from_numpy(ids)
        came, kept = self.clients.placed(who, live.places)
        return Clients(
            layout=run.layout,
            backend=cohort.backend,
            round=cohort.round,
            step=0,
            ids=ids,
            sizes=_own(cohort.sizes, part),
            steps=_own(cohort.steps, part),
            epochs=_own(cohort.epochs, part),
            lr=_own(cohort.lr, part),
            lr_total=_own(cohort.lr_total, part),
            seed=cohort.seed,
            start=start,
            w=start.expand(count, -1),
            g=live.g[:count],
            first=None if live.first is None else live.first[:count],
            ahead=None if live.ahead is None else live.ahead[:count],
            own=own,
            scratch=NamedRows({name: rows[:count] for name, rows in live.scratch.items()}),
            values=NamedRows(self.clients.gather(who, own)),
            came={**came, **own},
            kept={**kept, **own},
            server=MappingProxyType(self.server.shown()),
            scalars=MappingProxyType(self.server.scalars),
            decay=cohort.decay,
            probe=GradientSampler(trainer, run.data, cohort.round, run.batches.width),
            known=self._on_host(part),
        )

    def _on_host(self, part: slice) -> HostNumbers:
        """What the host knows of a chunk of the cohort."""
        host = self.cohort.on_host
        own = _own(host.sizes, part), _own(host.steps, part), _own(host.epochs, part)
        return HostNumbers(*own)

    def _add_up(self, at: Clients, part: slice) -> None:
        """A chunk's part of the mean, the sums and the clients' state."""
        run, models = self.run, self._models(len(at))
        run.hooks.upload(at, models)
        last = self.sums is not None and part.stop == len(self.order)
        ending = self.ending if last else None
        weights = _own(self.cohort.weights, part)
        place = Place(part.start, len(self.order), self.span[0])
        bad = run.mean.add(models, weights, self.sent, place, ending)
        if bad.shape[0]:
            self.tally.diverged += at.ids[bad.cpu().numpy()].tolist()
        if self.sums is not None:
            self.tally.numbers.append(run.hooks.finish(at, models))
            self._restore(at, bad)
            self.sums.add(at, place, self.clients)
            self.clients.scatter(torch.from_numpy(at.ids), at.own, at.values)
        if run.models.wanted and (len(at) < len(self.order) or self.part is not None):
            run.models.store(part, models, len(self.order))

    def _models(self, clients: int) -> Tensor:
        """The rows that the last chunk has trained. [K, S]"""
        return self.run.trainers.use(lambda trainer, _: trainer).live.w[:clients]

    def _restore(self, at: Clients, bad: Tensor) -> None:
        """Clients that diverged keep the state they came with, and add nothing to any sum."""
        if len(bad) == 0:
            return
        for t in at.scratch.values():
            t[bad] = 0.0
        for name, rows in at.kept.items():
            if isinstance(rows, PlacedRows):
                came = at.came[name]
                rows.only(bad).copy_(came.only(bad) if isinstance(came, PlacedRows) else came[bad])
        former = {name: torch.empty_like(rows) for name, rows in at.own.items()}
        values = self.clients.gather(torch.from_numpy(at.ids), former)
        for now, before in ((at.own, former), (at.values, values)):
            for name, t in now.items():
                where = bad.to(t.device)
                t[where] = before[name][where]
