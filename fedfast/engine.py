"""The round: schedule -> chunks of K clients' local steps -> sums -> server -> outcome.

A round reads `Engine.committed` and writes what no commit refers to: buffers, the other server
state, spare places of the clients' rows. Its caller commits it, or does not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .aggregation import Ending, Mean, RoundSums, is_finite
from .algorithms import Algorithm
from .algorithms._hook_checks import overrides
from .algorithms._return_checks import reweighed
from .algorithms.hooks import Clients, Cohort, TrainedLayout
from .algorithms.servers import ServerRule
from .client_loop import LocalTrainer
from .client_samples import ClientSamples
from .client_sampling import Round
from .clients import ClientState
from .cohort_pass import CohortModels, CohortPass, RunParts, Tally, joined
from .design import Design
from .distributed.peers import Peers
from .distributed.rounds import NOBODY, complete, spread_rows, take_over, values_of, whole_tally
from .distributed.shares import Shares
from .frozen import changed
from .hook_calls import HookCalls
from .memory import Halving
from .metrics.agreement.readings import Readings
from .metrics.agreement.watch import Watch
from .metrics.agreement.watched_mean import WatchedMean
from .phases import timed
from .round_batches import RoundBatches
from .row_tiers import RowTier
from .running_sum import Place
from .state import Committed, ServerState
from .transfers import all_sent_to, arrays_of

Shared = TypeVar("Shared", float, int)


@dataclass(frozen=True)
class Outcome:
    """What one round did.

    train_loss   mean over the samples seen, at the model each gradient was taken at
    update_norm  Euclidean norm of the mean client update
    norm_sum     sum over tensors of its norms
    diverged     ids of clients whose model became non-finite
    finite       whether the new global model is
    after        what holds from now on, once it is committed
    server_seconds  after the last client's training
    measured     columns of the run's metrics
    """

    train_loss: float
    update_norm: float
    norm_sum: float
    samples: int
    diverged: tuple[int, ...]
    finite: bool
    after: Committed
    server_seconds: float = math.nan
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What a cohort is to do in round `t`.

    lr, epochs  of all clients, or of each in the order of `plan` [C]
    population  N
    rehearsal   the batches of a first exchange, for rules that rehearse
    following   clients of the round after, whose rows may have to be fetched; None: not known
    """

    t: int
    plan: Round
    lr: float | np.ndarray
    epochs: int | np.ndarray
    population: int
    rehearsal: Round | None = None
    following: np.ndarray | None = None


@dataclass(frozen=True)
class Trained:
    """A cohort after its local steps, until the next one trains: its models lie in live buffers.

    order    positions in the plan of the cohort's clients
    state    the server's, which clients were shown; sent: the model they were sent [S]
    clients  their new state
    sums     what server rows follow from, but for the mean
    owners   [N], which rank keeps each client's rows from now on, where there are ranks
    """

    order: np.ndarray
    cohort: Cohort
    state: ServerState
    sent: Tensor
    clients: ClientState
    sums: RoundSums
    tally: Tally
    owners: np.ndarray | None = None


def _in_order(number: Shared | np.ndarray, order: np.ndarray) -> Shared | Tensor:
    """One number for all, or those of the clients in processing order."""
    return torch.from_numpy(number[order]) if isinstance(number, np.ndarray) else number


def _mean(design: Design, layout: TrainedLayout) -> tuple[Watch | None, Mean]:
    """The mean of the rounds, and what watches it for the run's metrics, if it has any."""
    backend = design.options.backend
    if not design.round_metrics:
        return None, Mean(design.row, layout, backend)
    watch = Watch(design.round_metrics, layout, backend)
    return watch, WatchedMean(design.row, layout, backend, watch)


def _work(cohort: Cohort) -> np.ndarray:
    """Samples that each client sees in its local steps, about. [C]"""
    return (cohort.sizes * cohort.epochs).numpy()


class Engine:
    """Runs rounds of chunks, clients and weights; users and files are its caller's.

    visible  the layout as algorithms see it
    late     whether a round looks for models that are not finite when it ends, in the one wait for
             the device that it ends with; a round that finds some is trained once more
    """

    def __init__(
        self, design: Design, trainers: Halving[LocalTrainer], tier: RowTier | None = None
    ) -> None:
        self.trainers, self.data = trainers, replace(design.data, test=None)
        self.ranks = design.ranks
        self.peers: Peers | None = None  # the ranks, where they read each other's memory
        self.options, self.client_decay = design.options, design.client_decay
        self.algorithm, self.backend = design.algorithm, design.options.backend
        row = design.row
        self.layout, self.visible = design.layout, TrainedLayout.of(design.layout, row.device)
        self.rule = self.algorithm.server.kernel(design.options.server_lr)
        server = self._new_server(row)
        self._servers = server, server.twin()
        self.committed = Committed(server, self._new_clients(row, tier))
        sends = overrides(self.algorithm.server, "send", ServerRule)
        self.sent = torch.empty_like(row) if sends else None
        self.watch, self.mean = _mean(design, self.visible)
        samples = ClientSamples(self.data)
        self.batches = RoundBatches(samples, design.width)
        self.hooks = HookCalls(self.algorithm, self.visible, row, self.client_decay)
        # Hooks of the user's may not be called twice in a round, nor with models not finite.
        alone = self.ranks is None and not self.hooks.foreign
        self.late = row.device.type != "cpu" and alone
        self.models = CohortModels(row, self.algorithm.server.whole)
        shared = self.visible, self.batches, self.hooks, self.mean, self.models
        self.run = RunParts(trainers, samples, self.algorithm, *shared)
        trainers.use(lambda trainer, _: trainer)  # buffers that do not fit are found out now

    def _new_server(self, row: Tensor) -> ServerState:
        algorithm, trained = self.algorithm, self.visible.trained
        values = algorithm.server_values(self.visible)
        rows, scalars = algorithm.server_rows(), algorithm.server_scalars()
        server = ServerState(row, trained, self.rule, rows, scalars, values)
        begin = algorithm.server.start_moment()
        if begin is not None and server.v is not None:
            server.v.fill_(begin)
        return server

    def _new_clients(self, row: Tensor, tier: RowTier | None) -> ClientState:
        values = dict(self.algorithm.client_values(self.visible))
        if self.client_decay != 1.0:
            values["epochs"] = torch.zeros((), dtype=torch.float64)  # local epochs done
        rows, population = self.algorithm.client_rows(), self.data.num_clients
        given = population, row, self.visible.trained, tier, self.algorithm.on_host
        return ClientState(rows, values, *given)

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

    def round(
        self,
        t: int,
        plan: Round,
        lr: float,
        rehearsal: Round | None = None,
        following: np.ndarray | None = None,
    ) -> Outcome:
        """One round from what is committed, which it leaves alone; `Outcome.after` may follow it.

        A round whose new state is not finite leaves everything as it was.
        rehearsal, following  see `Work`
        """
        epochs, population = self.options.local_epochs, self.data.num_clients
        work = Work(t, plan, lr, epochs, population, rehearsal, following)
        outcome = self._tried(work, late=True) if self.late else None
        if outcome is not None:
            return outcome
        self.late = False  # who diverges is likely to do so again, and all would train twice
        found = self._tried(work, late=False)
        assert found is not None
        return found

    def _tried(self, work: Work, late: bool) -> Outcome | None:
        """The round; None where models that it looked at `late` turned out not to be finite."""
        self.next.follow(self.state)
        ending = None if self.algorithm.server.whole else self._ending(self.state)
        done = self.train(work, self.state, ending, late)
        return self._concluded(done, self.models_of(done))

    def train(
        self, work: Work, state: ServerState, ending: Ending | None = None, late: bool = False
    ) -> Trained:
        """The cohort's local steps from `state`; nothing is committed.

        ending  the server's step, where it follows right away
        late    see `Mean.late`
        """
        self.mean.begin(late)
        t, plan = work.t, work.plan
        order = np.argsort(-plan.steps, kind="stable")
        host = self._cohort(work, order)
        cohort = self._there(host)
        shares = None if self.ranks is None else Shares.of(_work(host), self.ranks.size)
        sent = self._send(state, t, None)
        clients, owners = self._begin(cohort, shares, sent[: self.visible.trained])
        if work.following is not None:
            self.clients.expect(torch.from_numpy(work.following))
        if work.rehearsal is not None:
            who = order, cohort, sent, state, clients
            self._pass(CohortPass(self.run, work.rehearsal, *who), shares)
            sent = self._send(state, t, self.mean.trained)
        sums = RoundSums(self.algorithm.sums(host), host, self.mean.trained, self.backend)
        who = order, cohort, sent, state, clients
        tally = self._pass(CohortPass(self.run, plan, *who, sums, ending), shares)
        return Trained(order, cohort, state, sent, clients, sums, tally, owners)

    def _begin(
        self, cohort: Cohort, shares: Shares | None, start: Tensor
    ) -> tuple[ClientState, np.ndarray | None]:
        """(the state that this process's clients write, who keeps each client's rows then)."""
        ids = cohort.ids
        if self.ranks is None or shares is None:
            return self.clients.begin(torch.from_numpy(ids), start), None
        new, owners = shares.ranks(), self.owners
        own = torch.from_numpy(ids[shares.part(self.ranks.rank)])
        if not self.clients.kinds():
            return self.clients.begin(own, start), owners
        away = take_over(self.ranks, self.peers, self.clients, owners, ids, new)
        clients, owners = self.clients.begin(own, start), owners.copy()
        clients.drop(away)
        owners[ids] = new
        return clients, owners

    def _pass(self, cohort: CohortPass, shares: Shares | None) -> Tally:
        """The pass over the cohort, of which each rank trains its share."""
        ranks = self.ranks
        if self.watch is not None:
            self.watch.begin(cohort.cohort, self.state.row, self.models.wanted)
        if ranks is None or shares is None:
            return cohort.train()
        own = replace(cohort, ending=None, part=shares.part(ranks.rank), tally=Tally())
        with ranks.told_of_errors():
            tally = own.train()
            if self.peers is not None:
                cohort.clients.seal()
        more = [] if cohort.sums is None else [s for s in cohort.sums.own if s is not None]
        watched = [] if self.watch is None else self.watch.sums
        sums, peers = [self.mean.sum, *more, *watched], self.peers
        count = len(shares.nodes(ranks.rank))
        offered = peers is not None and peers.offer([s.nodes(count) for s in sums])
        found = whole_tally(peers or ranks, tally, cohort.sent.device)
        complete(ranks, peers if offered else None, sums, shares)
        if self.watch is not None:
            self.watch.complete(ranks, shares)
        if self.models.wanted:
            self.models.store(slice(0, 0), cohort.sent.expand(0, -1), shares.clients)
            spread_rows(ranks, self.models.first(shares.clients), shares)
        if cohort.ending is not None:
            self.mean.end(cohort.sent, cohort.ending)
        return found

    @property
    def owners(self) -> np.ndarray:
        """Which rank keeps each client's rows, -1 for nobody. [N]"""
        held = self.committed.owners
        return np.full(self.data.num_clients, NOBODY, np.int16) if held is None else held

    def step(self, done: Trained, models: Tensor) -> Outcome:
        """The server's part, from `models` [C, S] in processing order; see `round`."""
        self.next.follow(done.state)
        ending = None if self.algorithm.server.whole else self._ending(done.state)
        place = Place(0, len(models))
        self.mean.add(models, done.cohort.weights, done.sent, place, ending)
        outcome = self._concluded(done, models)
        assert outcome is not None  # `train` has looked at all models
        return outcome

    def gathered(self, work: Work) -> Clients:
        """The cohort as hooks see it before its first step, where all train at once."""
        order = np.argsort(-work.plan.steps, kind="stable")
        cohort = self._there(self._cohort(work, order))
        who = order, cohort, self.state.row, self.state, self.clients
        return CohortPass(self.run, work.plan, *who).gathered(self.trainer, slice(0, len(order)))

    def read(self, samples: ClientSamples) -> None:
        """Train on these samples from now on, of the shapes and types of the run's own."""
        self.run, self.batches.data = replace(self.run, data=samples), samples
        self.trainer.read(samples.data.x, samples.data.y)

    def models_of(self, done: Trained) -> Tensor:
        """The models of the cohort that was trained last, in processing order. [C, S]"""
        clients = len(done.cohort)
        if clients <= self.trainers.chunk and self.ranks is None:  # live buffers hold them all
            return self.trainer.live.active(clients).models
        return self.models.first(clients)

    def rows_of(self, done: Trained, clients: int) -> Tensor:
        """The same, and after them what was sent in the place of those who did not train."""
        rows, trained = self.models_of(done), len(done.cohort)
        if trained < clients <= self.trainers.chunk:
            rows = self.trainer.live.active(clients).models
        elif trained < clients:
            self.models.store(slice(0, trained), rows, clients)
            rows = self.models.first(clients)
        rows[trained:] = done.sent
        return rows

    @timed("aggregate")
    def _concluded(self, done: Trained, models: Tensor) -> Outcome | None:
        begin = time.perf_counter()
        self._conclude(done, models)
        return self._outcome(done, begin)

    def _outcome(self, done: Trained, begin: float) -> Outcome | None:
        """What the host reads of a round, in one wait; None where a model was not finite."""
        tally, mean = done.tally, self.mean
        rows = [t.view(-1) for t in self.next.tensors().values()]  # [S], [trained], or any shape
        of_rows = (row.dot(row) for row in rows)
        of_mean = mean.total(), mean.square, mean.norm_sum()
        pending, readings = self.next.pending, self._readings(done)
        figures = tally.summed_loss, *of_mean, *of_rows, *pending.values()
        found = arrays_of(*figures, *readings.tensors)
        numbers, measured = [float(x) for x in found[: len(figures)]], found[len(figures) :]
        loss, total, square, norm_sum, *squares = numbers
        if not math.isfinite(total):
            return None
        self.next.scalars.update(zip(pending, squares[len(rows) :], strict=True))
        norm = square**0.5
        known = zip(rows, squares[: len(rows)], strict=True)
        finite = math.isfinite(norm) and all(is_finite(*row, self.backend) for row in known)
        after = self.committed
        # A diverged client counts as one that did not move where the run goes on without it.
        tolerant = self.options.on_divergence == "continue"
        if finite and (tolerant or not tally.diverged):
            after = changed(after, server=self.next, clients=done.clients, owners=done.owners)
        columns = self._columns(readings, measured, after.server is self.next)
        diverged = tuple(tally.diverged)
        seconds, average = time.perf_counter() - begin, loss / max(tally.samples, 1)
        norms = norm, norm_sum
        return Outcome(average, *norms, tally.samples, diverged, finite, after, seconds, columns)

    def _readings(self, done: Trained) -> Readings:
        """What the run's metrics ask of a round."""
        if self.watch is None:
            return Readings(())
        who = self.algorithm, done.cohort, done.state, self.next, done.sent, self.mean.trained
        return self.watch.readings(*who)

    def _columns(
        self, readings: Readings, found: Sequence[np.ndarray], counts: bool
    ) -> Mapping[str, float]:
        """The columns of the run's metrics; of a round that came to nothing they are nan."""
        if self.watch is None:
            return {}
        return readings.columns(found) if counts else self.watch.nothing()

    def _cohort(self, work: Work, order: np.ndarray) -> Cohort:
        """The round's clients, with all numbers on the host."""
        ids = work.plan.clients[order]
        sizes = torch.from_numpy(self.run.data.sizes(ids).astype(np.float64))
        counts = torch.from_numpy(work.plan.steps[order].astype(np.float64))
        cohort = Cohort(
            round=work.t,
            lr=_in_order(work.lr, order),
            ids=ids,
            sizes=sizes,
            steps=counts,
            weights=self.algorithm.weights(sizes, self.options.aggregation == "samples"),
            lr_total=counts,
            epochs=_in_order(work.epochs, order),
            population=work.population,
            seed=self.options.seed,
            backend=self.backend,
            decay=self.client_decay,
        )
        return changed(cohort, lr_total=self.algorithm.lr_total(cohort, self._values(ids)))

    def _values(self, ids: np.ndarray) -> dict[str, Tensor]:
        """What `lr_total` may read of clients: their values, on the host."""
        if self.ranks is not None:
            found = values_of(self.ranks, self.peers, self.clients, self.owners, ids)
        elif self.client_decay == 1.0 and not overrides(self.algorithm, "lr_total", Algorithm):
            found = {}  # rates are the round's
        else:
            found = self.clients.values_of(torch.from_numpy(ids))
        return {name: value.cpu() for name, value in found.items()}

    def _there(self, host: Cohort) -> Cohort:
        """The same clients, with all numbers on the device."""
        device = self.state.row.device
        if device.type == "cpu":
            return host
        names = "sizes", "steps", "weights", "lr_total", "lr", "epochs"
        own = {name: getattr(host, name) for name in names}
        own = {name: t.double() for name, t in own.items() if isinstance(t, Tensor)}
        there = dict(zip(own, all_sent_to([*own.values()], device), strict=True))
        return changed(host, known=host, **there)

    def _send(self, state: ServerState, t: int, rehearsed: Tensor | None) -> Tensor:
        """The row that clients receive. [S]"""
        if self.sent is None:
            return state.row
        out = self.sent.copy_(state.row)[: self.visible.trained]
        self.algorithm.server.send(state, t, rehearsed, out, self.backend)
        return self.sent

    def _ending(self, state: ServerState) -> Ending:
        return Ending(self.rule, state, self.next)

    def _conclude(self, done: Trained, models: Tensor) -> None:
        """The server's part: `next` from the state before."""
        tally, sums, cohort, sent = done.tally, done.sums, done.cohort, done.sent
        algorithm, after, numbers = self.algorithm, self.next, tally.joined()
        # Before the mean is reweighed: the clients' states follow from what they did themselves.
        sums.into(after, len(cohort) - len(tally.diverged))
        if self.watch is not None:
            self.watch.summed(self.mean.trained)
        starts = joined(tally.start_losses) if tally.start_losses else None
        losses = joined(tally.train_losses)
        cohort = changed(cohort, train_loss=losses, start_loss=starts, numbers=dict(numbers))
        if algorithm.server.whole:
            numbers |= self._reweigh(cohort, sent, models)
            cohort = changed(cohort, numbers=dict(numbers))
            self.mean.end(sent, self._ending(done.state))
        self.layout.settle(after.row)
        algorithm.settle(after, cohort, numbers)
        added = [(after.rows[name], c) for name, c in algorithm.added().items()]
        if added:
            w = after.w[None]
            kernels.step(w, added, -1.0, out=w, backend=self.backend)

    def _reweigh(self, cohort: Cohort, sent: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """The mean anew, by weights that depend on all models; returns the rule's numbers."""
        trained, rule = self.visible.trained, self.algorithm.server
        models, start = rows[:, :trained], sent[:trained]
        answer = rule.reweigh(models, start, cohort, self.visible, self.backend)
        weights, numbers = reweighed(rule, answer, cohort, self.visible)
        self.mean.replace(models, weights, start)
        return dict(numbers)
