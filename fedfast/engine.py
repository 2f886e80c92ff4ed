"""The round: schedule -> chunks of K clients' local steps -> sums -> server -> verdict.

A round reads `Engine.committed` and writes what no commit refers to: buffers, the other server
state, spare places of the clients' banks. Its caller commits it, or does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from . import kernels
from .aggregation import Ending, Mean, RoundSums, nonfinite
from .algorithms._hook_checks import foreign, overrides
from .algorithms._return_checks import number_rows, reweighed
from .algorithms.hooks import Clients, Cohort, NamedRows
from .algorithms.servers import ServerRule
from .client_loop import Batches, LocalSettings, LocalTrainer, about
from .client_sampling import Round
from .clients import ClientState
from .data import FederatedData
from .gradient_sampler import GradientSampler
from .layout import FlatLayout
from .memory import Halving
from .read_only import ReadOnly, class_names
from .state import Committed, ServerState


@dataclass(frozen=True)
class Outcome:
    """What one round did.

    train_loss   mean over the samples seen, at the model each gradient was taken at
    update_norm  Euclidean norm of the mean client update
    norm_sum     sum over tensors of its norms
    diverged     ids of clients whose model became non-finite
    finite       whether the new global model is
    after        what holds from now on, once it is committed
    """

    train_loss: float
    update_norm: float
    norm_sum: float
    samples: int
    diverged: tuple[int, ...]
    finite: bool
    after: Committed


@dataclass(frozen=True)
class EngineSettings:
    """What a run fixes for its rounds.

    cohort    the largest cohort of the schedule
    width     B, its widest batch
    drop_last  whether batches narrower than B are left out, in fine-tuning too
    tolerant  a diverged client counts as one that did not move; else its divergence leaves the
              global model as it was
    """

    cohort: int
    width: int
    by_samples: bool
    tolerant: bool
    server_lr: float
    drop_last: bool = False


class Engine:
    """Runs rounds; knows clients, chunks and weights, but neither users nor files."""

    def __init__(
        self,
        trainers: Halving[LocalTrainer],
        data: FederatedData,
        layout: FlatLayout,
        row: Tensor,
        local: LocalSettings,
        settings: EngineSettings,
    ) -> None:
        self.trainers, self.data, self.local, self.settings = trainers, data, local, settings
        self.algorithm, self.backend = local.algorithm, local.backend
        self.layout, self.about = layout, about(layout, row.device)
        self.rule = self.algorithm.server.kernel(settings.server_lr)
        trained = self.about.trained
        kept = self.algorithm.server_rows(), self.algorithm.server_scalars()
        small = self.algorithm.server_values(self.about)
        server = ServerState(row, trained, self.rule, *kept, small)
        begin = self.algorithm.server.start_moment()
        if begin is not None and server.v is not None:
            server.v.fill_(begin)
        self._servers = server, server.twin()
        rows, values = self.algorithm.client_rows(), self.algorithm.client_values(self.about)
        self.decay = local.client_decay
        if self.decay != 1.0:
            values["epochs"] = torch.zeros((), dtype=torch.float64)  # local epochs done
        parts = self.algorithm, *self.algorithm.components
        self.padding = (~self.about.real(row.device)).nonzero()[:, 0]
        self.foreign, self.uploads = any(foreign(p) for p in parts), self.algorithm.uploads
        clients = ClientState(rows, values, data.num_clients, row, trained)
        self.committed = Committed(server, clients)
        sends = overrides(self.algorithm.server, "send", ServerRule)
        self.sent = torch.empty_like(row) if sends else None
        self.mean = Mean(row, self.about, self.backend)
        self.models = row.new_zeros(0, trained)  # of a whole cohort, where a rule needs it
        trainers.use(lambda trainer, _: trainer)  # buffers that do not fit are found out now

    @property
    def state(self) -> ServerState:
        """The server's state after the last complete round."""
        return self.committed.server

    @property
    def clients(self) -> ClientState:
        """The clients' state after the last complete round."""
        return self.committed.clients

    @property
    def next(self) -> ServerState:
        """The server's other state, for the next round to write."""
        one, other = self._servers
        return other if self.state is one else one

    @property
    def trainer(self) -> LocalTrainer:
        """The owner of the live buffers, until memory runs out."""
        return self.trainers.use(lambda trainer, _: trainer)

    def round(self, t: int, plan: Round, lr: float, rehearsal: Round | None = None) -> Outcome:
        """One round from what is committed, which it leaves alone; `Outcome.after` may follow it.

        A round whose new state is not finite leaves everything as it was.
        rehearsal  the cohort's batches of a first exchange, for rules that rehearse
        """
        order = np.argsort(-plan.steps, kind="stable")
        cohort = self._cohort(t, plan.clients[order], plan.steps[order], lr)
        self.next.follow(self.state)
        sent = self._send(t, None)
        clients = self.clients.begin(torch.from_numpy(cohort.ids), sent[: self.about.trained])
        if rehearsal is not None:
            self._train(_Tally(clients), rehearsal, order, cohort, sent)
            sent = self._send(t, self.mean.trained)
        rules = self.algorithm.sums(cohort)
        tally = _Tally(clients, RoundSums(rules, cohort, self.mean.trained, self.backend))
        self._train(tally, plan, order, cohort, sent)
        norm = self._conclude(tally, cohort, sent)
        finite = math.isfinite(norm) and self._sound(self.next)
        after = self.committed
        if finite and (self.settings.tolerant or not tally.diverged):
            after = replace(after, server=self.next, clients=clients)
        diverged = tuple(tally.diverged)
        norms = norm, self.mean.norm_sum()
        return Outcome(tally.train_loss, *norms, tally.samples, diverged, finite, after)

    def _cohort(self, t: int, ids: np.ndarray, steps: np.ndarray, lr: float) -> Cohort:
        device = self.state.row.device
        sizes = torch.from_numpy(self.data.sizes[ids]).to(device, torch.float64)
        counts = torch.from_numpy(steps).to(device, torch.float64)
        weights = self.algorithm.weights(sizes, self.settings.by_samples)
        cohort = Cohort(
            round=t,
            lr=lr,
            ids=ids,
            sizes=sizes,
            steps=counts,
            weights=weights,
            lr_total=counts * lr,
            epochs=self.local.epochs,
            population=self.data.num_clients,
            seed=self.local.seed,
            backend=self.backend,
            decay=self.decay,
        )
        values = self.clients.values_of(torch.from_numpy(ids))
        return replace(cohort, lr_total=self.algorithm.lr_total(cohort, values))

    def _send(self, t: int, rehearsed: Tensor | None) -> Tensor:
        """The row that clients receive. [S]"""
        if self.sent is None:
            return self.state.row
        out = self.sent.copy_(self.state.row)[: self.about.trained]
        self.algorithm.server.send(self.state, t, rehearsed, out, self.backend)
        return self.sent

    def _train(
        self, tally: _Tally, plan: Round, order: np.ndarray, cohort: Cohort, sent: Tensor
    ) -> None:
        """Train the cohort in chunks and sum up; a rehearsal (no sums) changes no client state."""
        begin = 0
        while begin < len(order):
            at, samples = self._chunk(tally, plan, order, cohort, begin, sent)
            part = slice(begin, begin + len(at))
            self._upload(at)
            ends = tally.sums is not None and part.stop == len(order)
            bad = self._add(at, cohort.weights[part], sent, begin == 0, ends)
            tally.samples += samples
            tally.diverged += at.ids[bad.cpu().numpy()].tolist()
            if tally.sums is not None:
                tally.numbers.append(self._finish(at))
                self._restore(tally.clients, at, bad)
                tally.sums.add(at, part, tally.clients)
                tally.clients.scatter(torch.from_numpy(at.ids), at.own, at.values)
            if self.algorithm.server.whole and len(at) < len(order):
                self._store(part, at.w)
            begin = part.stop
            del at  # its views would keep the live buffers where the next chunk must halve them

    def _upload(self, at: Clients) -> None:
        """What clients send, in the place of the models they end with."""
        if not self.uploads:
            return
        if self.algorithm.personal is not None:  # theirs is the model before
            at.own[self.algorithm.personal].copy_(self.trainer.w[: len(at)])
        w, held = at.w, self._guarded(at, {})
        self.algorithm.upload(at)
        self._rebound(at, w, "upload", "change it in place: at.w.copy_(...)")
        at.w[:, self.padding] = 0.0
        held.check(self.algorithm, "upload", "What a client sends is at.w.")

    def _finish(self, at: Clients) -> dict[str, Tensor]:
        """The hook after the mean; it can change neither the models nor what was sent."""
        if self.algorithm.personal is not None and not self.uploads:
            at.own[self.algorithm.personal].copy_(self.trainer.w[: len(at)])
        w, held = at.w, self._guarded(at, {"at.w": at.w})
        found = number_rows(self.algorithm, self.algorithm.finish(at), at)
        remedy = "The mean is taken already; `upload(at)` is called before it"
        self._rebound(at, w, "finish", remedy)
        held.check(self.algorithm, "finish", f"{remedy}.")
        if self.decay != 1.0:
            at.values["epochs"] += at.epochs
        return dict(found)

    def _guarded(self, at: Clients, more: dict[str, Tensor]) -> ReadOnly:
        """What a hook may not write to."""
        server = {f"at.server[{name!r}]": t for name, t in at.server.items()}
        return ReadOnly({"at.start": at.start} | server | more, self.foreign)

    def _rebound(self, at: Clients, w: Tensor, hook: str, remedy: str) -> None:
        if at.w is not w:
            who = class_names(self.algorithm)
            raise ValueError(f"at.w: {hook} of {who} bound it to another tensor; {remedy}")

    def _chunk(
        self,
        tally: _Tally,
        plan: Round,
        order: np.ndarray,
        cohort: Cohort,
        begin: int,
        sent: Tensor,
    ) -> tuple[Clients, int]:
        """The next K clients, trained; and how many samples they saw."""

        def work(trainer: LocalTrainer, chunk: int) -> tuple[Clients, Tensor, int]:
            chosen = order[begin : begin + chunk]
            batches = self.batches(trainer, cohort.round, plan, chosen)
            part = slice(begin, begin + len(chosen))
            at = self._clients(trainer, tally.clients, cohort, part, sent)
            parts = self.algorithm.components
            wants = self.algorithm.drift.full_gradient or any(p.start_losses for p in parts)
            everything = self._everything(trainer, at, plan.width) if wants else None
            held = self._guarded(at, {})
            losses = trainer.train(sent, batches, at, everything)
            held.check(self.algorithm, "the hooks of local steps", "Write to at.own or at.w.")
            at = replace(at)  # recorded steps may hold on to the other
            del at.g  # fused steps leave it half written: no hook after them can take it for one
            seen = batches.count.sum(dim=1).clamp(min=1)
            at.train_loss = losses / seen.to(losses)
            return at, losses, int(batches.count.sum())

        at, losses, samples = self.trainers.use(work)
        tally.losses.append(losses)
        if at.train_loss is not None:
            tally.train_losses.append(at.train_loss)
        if at.start_loss is not None:
            tally.start_losses.append(at.start_loss)
        return at, samples

    def _store(self, part: slice, models: Tensor) -> None:
        """Keep a chunk's models until the cohort is complete."""
        if not len(self.models):
            self.models = models.new_zeros(self.settings.cohort, models.shape[1])
        self.models[part] = models

    def _clients(
        self, trainer: LocalTrainer, clients: ClientState, cohort: Cohort, part: slice, sent: Tensor
    ) -> Clients:
        """A chunk of the cohort with its state gathered."""
        ids, start = cohort.ids[part], sent[: self.about.trained]
        count = len(ids)
        own = NamedRows({name: bank[:count] for name, bank in trainer.own.items()})
        values = NamedRows(clients.gather(torch.from_numpy(ids), own))
        scratch = NamedRows({name: bank[:count] for name, bank in trainer.scratch.items()})
        return Clients(
            layout=self.about,
            backend=self.backend,
            round=cohort.round,
            step=0,
            ids=ids,
            sizes=cohort.sizes[part],
            steps=cohort.steps[part],
            epochs=cohort.epochs,
            lr=cohort.lr,
            lr_total=cohort.lr_total[part],
            seed=cohort.seed,
            start=start,
            w=start.expand(count, -1),
            g=trainer.g[:count],
            first=None if trainer.first is None else trainer.first[:count],
            ahead=None if trainer.ahead is None else trainer.ahead[:count],
            own=own,
            scratch=scratch,
            values=values,
            server=MappingProxyType(self.state.shown()),
            scalars=MappingProxyType(self.state.scalars),
            decay=self.decay,
            probe=GradientSampler(trainer, self.data, cohort.round, self.settings.width),
        )

    def batches(self, trainer: LocalTrainer, t: int, plan: Round, chosen: np.ndarray) -> Batches:
        """The batches of the clients at the positions `chosen` of a round, as wide as the run's."""
        index, count = plan.batches(chosen)
        clients = plan.clients[chosen]
        steps = int(count.ne(0).sum(dim=1).max()) if len(chosen) else 0
        width = self.settings.width  # what the path's buffers hold, which `plan` may not fill
        index = pad(index[:, :steps], (0, width - plan.width))
        sample = self.data.rows(torch.from_numpy(clients), index)
        draws = trainer.feed.draw(t, clients, steps, width)
        return Batches(t, clients, sample, count[:, :steps], draws)

    def _everything(self, trainer: LocalTrainer, at: Clients, width: int) -> Batches:
        """All samples of a chunk's clients, once and in their order."""
        sizes = self.data.sizes[at.ids]
        slot = np.arange(-(-int(sizes.max()) // width) * width).reshape(-1, width)
        real = slot[None] < sizes[:, None, None]
        index, count = np.where(real, slot[None], 0), real.sum(-1).astype(np.int32)
        sample = self.data.rows(torch.from_numpy(at.ids), torch.from_numpy(index))
        draws = trainer.feed.draw(at.round, at.ids, len(slot), width)
        return Batches(at.round, at.ids, sample, torch.from_numpy(count), draws)

    def _add(self, at: Clients, weights: Tensor, sent: Tensor, first: bool, ends: bool) -> Tensor:
        """Add a chunk to the mean; positions of its non-finite clients, `sent` in their place."""
        ending = self._ending if ends and not self.algorithm.server.whole else None
        return self.mean.add(self.trainer.w[: len(at)], weights, sent, first, ending)

    @property
    def _ending(self) -> Ending:
        return Ending(self.rule, self.state, self.next)

    def _restore(self, clients: ClientState, at: Clients, bad: Tensor) -> None:
        """Clients that diverged keep the state they came with, and add nothing to any sum."""
        if len(bad) == 0:
            return
        for t in at.scratch.values():
            t[bad] = 0.0
        former = {name: torch.empty_like(bank) for name, bank in at.own.items()}
        values = clients.gather(torch.from_numpy(at.ids), former)
        for now, before in ((at.own, former), (at.values, values)):
            for name, t in now.items():
                t[bad] = before[name][bad]

    def _conclude(self, tally: _Tally, cohort: Cohort, sent: Tensor) -> float:
        """The server's part: `next` from `state`; returns the norm of the mean update."""
        algorithm, after, numbers = self.algorithm, self.next, tally.joined()
        start = sent[: after.trained]
        assert tally.sums is not None
        # Before the mean is reweighed: the clients' states follow from what they did themselves.
        tally.sums.into(after, len(cohort) - len(tally.diverged))
        starts = torch.cat(tally.start_losses) if tally.start_losses else None
        losses = torch.cat(tally.train_losses)
        cohort = replace(cohort, train_loss=losses, start_loss=starts, numbers=dict(numbers))
        if algorithm.server.whole:
            models = self._all_models(len(cohort))
            about, backend = self.about, self.backend
            answer = algorithm.server.reweigh(models, start, cohort, about, backend)
            weights, found = reweighed(algorithm.server, answer, cohort, about)
            self.mean.replace(models, weights, start)
            numbers |= found
            cohort = replace(cohort, numbers=dict(numbers))
            self.mean.end(sent, self._ending)
        self.layout.settle(after.row)
        algorithm.settle(after, cohort, numbers)
        added = [(after.rows[name], c) for name, c in algorithm.added().items()]
        if added:
            w = after.w[None]
            kernels.step(w, added, -1.0, out=w, backend=self.backend)
        return self.mean.norm

    def _all_models(self, clients: int) -> Tensor:
        """The cohort's models [C, trained]: the live bank where it holds them all."""
        if clients <= self.trainers.chunk:
            return self.trainer.w[:clients, : self.about.trained]
        return self.models[:clients]

    def _sound(self, state: ServerState) -> bool:
        """Whether the model and everything beside it is finite."""
        rows = state.tensors().values()  # [S], [trained], or a value of any shape
        return all(self._finite(row.view(-1)) for row in rows)

    def _finite(self, row: Tensor) -> bool:
        """Whether all of a row [S] is; a finite square says so at once, its overflow does not."""
        quick = math.isfinite(float(row.dot(row)))
        return quick or not bool(nonfinite(row[None], self.backend).any())


@dataclass
class _Tally:
    """What a pass over the cohort collects; without `sums` it is a rehearsal."""

    clients: ClientState
    sums: RoundSums | None = None
    losses: list[Tensor] = field(default_factory=list)
    train_losses: list[Tensor] = field(default_factory=list)
    start_losses: list[Tensor] = field(default_factory=list)
    numbers: list[dict[str, Tensor]] = field(default_factory=list)
    diverged: list[int] = field(default_factory=list)
    samples: int = 0

    @property
    def train_loss(self) -> float:
        return float(torch.cat(self.losses).sum()) / max(self.samples, 1)

    def joined(self) -> dict[str, Tensor]:
        """Numbers of all chunks, [C] by name."""
        names = self.numbers[0] if self.numbers else ()
        return {name: torch.cat([part[name] for part in self.numbers]) for name in names}
