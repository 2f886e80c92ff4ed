"""The round: schedule -> chunks of K clients' local steps -> sums -> server -> outcome.

A round reads `Engine.committed` and writes what no commit refers to: buffers, the other server
state, spare places of the clients' rows. Its caller commits it, or does not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .aggregation import Ending, RoundSums
from .algorithms.hooks import Clients
from .client_samples import ClientSamples
from .client_sampling import Round
from .cohort_pass import CohortPass
from .distributed.cohort_shares import begin_clients, shares_of, train_cohort
from .engine_parts import EngineParts
from .round_cohort import cohort_of, on_device
from .round_end import concluded, ending_of
from .round_records import Outcome, Trained, Work
from .running_sum import Place
from .state import ServerState


class Engine(EngineParts):
    """Runs rounds of chunks, clients and weights; users and files are its caller's."""

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
        ending = None if self.algorithm.server.whole else ending_of(self, self.state)
        done = self.train(work, self.state, ending, late)
        return concluded(self, done, self.models_of(done))

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
        host = cohort_of(self, work, order)
        cohort = on_device(self, host)
        shares = shares_of(self, host)
        sent = self._send(state, t, None)
        clients, owners = begin_clients(self, cohort, shares, sent[: self.visible.trained])
        if work.following is not None:
            self.clients.expect(torch.from_numpy(work.following))
        if work.rehearsal is not None:
            who = order, cohort, sent, state, clients
            train_cohort(self, CohortPass(self.run, work.rehearsal, *who), shares)
            sent = self._send(state, t, self.mean.trained)
        sums = RoundSums(self.algorithm.sums(host), host, self.mean.trained, self.backend)
        who = order, cohort, sent, state, clients
        tally = train_cohort(self, CohortPass(self.run, plan, *who, sums, ending), shares)
        return Trained(order, cohort, state, sent, clients, sums, tally, owners)

    def _send(self, state: ServerState, t: int, rehearsed: Tensor | None) -> Tensor:
        """The row that clients receive. [S]"""
        if self.sent is None:
            return state.row
        out = self.sent.copy_(state.row)[: self.visible.trained]
        self.algorithm.server.send(state, t, rehearsed, out, self.backend)
        return self.sent

    def step(self, done: Trained, models: Tensor) -> Outcome:
        """The server's part, from `models` [C, S] in processing order; see `round`."""
        self.next.follow(done.state)
        ending = None if self.algorithm.server.whole else ending_of(self, done.state)
        place = Place(0, len(models))
        self.mean.add(models, done.cohort.weights, done.sent, place, ending)
        outcome = concluded(self, done, models)
        assert outcome is not None  # `train` has looked at all models
        return outcome

    def gathered(self, work: Work) -> Clients:
        """The cohort as hooks see it before its first step, where all train at once."""
        order = np.argsort(-work.plan.steps, kind="stable")
        cohort = on_device(self, cohort_of(self, work, order))
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
