"""The round: schedule -> chunks of K clients' local steps -> sums -> server -> outcome.

A round reads `Engine.committed` and writes what no commit refers to: buffers, the other server
state, spare places of the clients' rows. Its caller commits it, or does not.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .aggregation import Ending, Mean, RoundSums, is_finite
from .algorithms._hook_checks import overrides
from .algorithms._return_checks import reweighed
from .algorithms.hooks import Cohort, TrainedLayout
from .algorithms.servers import ServerRule
from .client_loop import LocalTrainer
from .client_sampling import Round
from .clients import ClientState
from .cohort_pass import CohortModels, CohortPass, RunParts, Tally
from .design import Design
from .hook_calls import HookCalls
from .memory import Halving
from .round_batches import RoundBatches
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
    server_seconds  after the last client's training
    """

    train_loss: float
    update_norm: float
    norm_sum: float
    samples: int
    diverged: tuple[int, ...]
    finite: bool
    after: Committed
    server_seconds: float = math.nan


class Engine:
    """Runs rounds of chunks, clients and weights; users and files are its caller's.

    visible  the layout as algorithms see it
    """

    def __init__(self, design: Design, trainers: Halving[LocalTrainer]) -> None:
        self.trainers, self.data = trainers, replace(design.data, test=None)
        self.options, self.client_decay = design.options, design.client_decay
        self.algorithm, self.backend = design.algorithm, design.options.backend
        row, schedule = design.row, design.schedule
        self.layout, self.visible = design.layout, TrainedLayout.of(design.layout, row.device)
        self.rule = self.algorithm.server.kernel(design.options.server_lr)
        server = self._new_server(row)
        self._servers = server, server.twin()
        self.committed = Committed(server, self._new_clients(row))
        sends = overrides(self.algorithm.server, "send", ServerRule)
        self.sent = torch.empty_like(row) if sends else None
        self.mean = Mean(row, self.visible, self.backend)
        self.batches = RoundBatches(self.data, schedule.width)
        self.hooks = HookCalls(self.algorithm, self.visible, row, self.client_decay)
        self.models = CohortModels(row, schedule.largest_cohort, self.visible.trained)
        shared = self.visible, self.batches, self.hooks, self.mean, self.models
        self.run = RunParts(trainers, self.data, self.algorithm, *shared)
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

    def _new_clients(self, row: Tensor) -> ClientState:
        values = dict(self.algorithm.client_values(self.visible))
        if self.client_decay != 1.0:
            values["epochs"] = torch.zeros((), dtype=torch.float64)  # local epochs done
        rows, population = self.algorithm.client_rows(), self.data.num_clients
        return ClientState(rows, values, population, row, self.visible.trained)

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
        sent, trained = self._send(t, None), self.visible.trained
        clients = self.clients.begin(torch.from_numpy(cohort.ids), sent[:trained])
        if rehearsal is not None:
            who = order, cohort, sent, self.state, clients
            CohortPass(self.run, rehearsal, *who).train()
            sent = self._send(t, self.mean.trained)
        sums = RoundSums(self.algorithm.sums(cohort), cohort, self.mean.trained, self.backend)
        ending = None if self.algorithm.server.whole else self._ending
        who = order, cohort, sent, self.state, clients
        tally = CohortPass(self.run, plan, *who, sums, ending).train()
        begin = time.perf_counter()
        norm = self._conclude(tally, sums, cohort, sent)
        return replace(
            self._outcome(tally, norm, clients), server_seconds=time.perf_counter() - begin
        )

    def _outcome(self, tally: Tally, norm: float, clients: ClientState) -> Outcome:
        tensors = self.next.tensors().values()  # [S], [trained], or a value of any shape
        finite = math.isfinite(norm) and all(is_finite(t.view(-1), self.backend) for t in tensors)
        after = self.committed
        # A diverged client counts as one that did not move where the run goes on without it.
        tolerant = self.options.on_divergence == "continue"
        if finite and (tolerant or not tally.diverged):
            after = replace(after, server=self.next, clients=clients)
        diverged = tuple(tally.diverged)
        norms = norm, self.mean.norm_sum()
        return Outcome(tally.train_loss, *norms, tally.samples, diverged, finite, after)

    def _cohort(self, t: int, ids: np.ndarray, steps: np.ndarray, lr: float) -> Cohort:
        device = self.state.row.device
        sizes = torch.from_numpy(self.data.sizes[ids]).to(device, torch.float64)
        counts = torch.from_numpy(steps).to(device, torch.float64)
        cohort = Cohort(
            round=t,
            lr=lr,
            ids=ids,
            sizes=sizes,
            steps=counts,
            weights=self.algorithm.weights(sizes, self.options.aggregation == "samples"),
            lr_total=counts * lr,
            epochs=self.options.local_epochs,
            population=self.data.num_clients,
            seed=self.options.seed,
            backend=self.backend,
            decay=self.client_decay,
        )
        values = self.clients.values_of(torch.from_numpy(ids))
        return replace(cohort, lr_total=self.algorithm.lr_total(cohort, values))

    def _send(self, t: int, rehearsed: Tensor | None) -> Tensor:
        """The row that clients receive. [S]"""
        if self.sent is None:
            return self.state.row
        out = self.sent.copy_(self.state.row)[: self.visible.trained]
        self.algorithm.server.send(self.state, t, rehearsed, out, self.backend)
        return self.sent

    @property
    def _ending(self) -> Ending:
        return Ending(self.rule, self.state, self.next)

    def _conclude(self, tally: Tally, sums: RoundSums, cohort: Cohort, sent: Tensor) -> float:
        """The server's part: `next` from `state`; returns the norm of the mean update."""
        algorithm, after, numbers = self.algorithm, self.next, tally.joined()
        # Before the mean is reweighed: the clients' states follow from what they did themselves.
        sums.into(after, len(cohort) - len(tally.diverged))
        starts = torch.cat(tally.start_losses) if tally.start_losses else None
        losses = torch.cat(tally.train_losses)
        cohort = replace(cohort, train_loss=losses, start_loss=starts, numbers=dict(numbers))
        if algorithm.server.whole:
            numbers |= self._reweigh(cohort, sent)
            cohort = replace(cohort, numbers=dict(numbers))
            self.mean.end(sent, self._ending)
        self.layout.settle(after.row)
        algorithm.settle(after, cohort, numbers)
        added = [(after.rows[name], c) for name, c in algorithm.added().items()]
        if added:
            w = after.w[None]
            kernels.step(w, added, -1.0, out=w, backend=self.backend)
        return self.mean.norm

    def _reweigh(self, cohort: Cohort, sent: Tensor) -> dict[str, Tensor]:
        """The mean anew, by weights that depend on all models; returns the rule's numbers."""
        start, rule, clients = sent[: self.visible.trained], self.algorithm.server, len(cohort)
        models = self.models.first(clients)
        if clients <= self.trainers.chunk:  # the live buffers hold them all
            models = self.trainer.live.active(clients).w
        answer = rule.reweigh(models, start, cohort, self.visible, self.backend)
        weights, numbers = reweighed(rule, answer, cohort, self.visible)
        self.mean.replace(models, weights, start)
        return dict(numbers)
