"""What an engine is made of: the run's states, buffers and hooks, which all its rounds share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .aggregation import Mean
from .algorithms._hook_checks import overrides
from .algorithms.hooks import TrainedLayout
from .algorithms.servers import ServerRule
from .client_loop import LocalTrainer
from .client_samples import ClientSamples
from .clients import ClientState
from .cohort_pass import CohortModels, RunParts
from .design import Design
from .distributed.peers import Peers
from .distributed.rounds import NOBODY
from .hook_calls import HookCalls
from .memory import Halving
from .metrics.agreement.watch import Watch
from .metrics.agreement.watched_mean import WatchedMean
from .round_batches import RoundBatches
from .row_tiers import RowTier
from .state import Committed, ServerState


def _mean(design: Design, layout: TrainedLayout) -> tuple[Watch | None, Mean]:
    """The mean of the rounds, and what watches it for the run's metrics, if it has any."""
    backend = design.options.backend
    if not design.round_metrics:
        return None, Mean(design.row, layout, backend)
    watch = Watch(design.round_metrics, layout, backend)
    return watch, WatchedMean(design.row, layout, backend, watch)


class EngineParts:
    """States, buffers and hooks of a run; `Engine` runs its rounds on them.

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

    @property
    def owners(self) -> np.ndarray:
        """Which rank keeps each client's rows, -1 for nobody. [N]"""
        held = self.committed.owners
        return np.full(self.data.num_clients, NOBODY, np.int16) if held is None else held
