"""`RunModels`: the models of one label of a run, and clients' after local training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..config import RunConfig
from ..copies import copy_of
from ..kernels.plan import forget_recording
from ..layout import FlatLayout
from ..round_loop import training
from ..round_records import Work
from ..rounds import EXCHANGE, drawn_round
from .kept_model import lost, path_in

if TYPE_CHECKING:
    from ..data import FederatedData, Samples
    from ..simulation import Simulation


@dataclass(frozen=True, eq=False)
class RunModels:
    """A label of a run, its state loaded. Measuring leaves the run's folder and state alone.

    model_only  whether the run kept the global model alone, without the rest of its state
    """

    folder: Path
    label: str
    config: RunConfig
    simulation: Simulation
    model_only: bool = False

    @property
    def layout(self) -> FlatLayout:
        """Of the rows."""
        return self.simulation.layout

    @property
    def module(self) -> nn.Module:
        """The architecture; its weights are those before round 1."""
        return self.simulation._components.design.module

    @property
    def data(self) -> FederatedData:
        """What clients train on."""
        return self.simulation._components.design.data

    @property
    def test(self) -> Samples | None:
        """The global test set."""
        return self.simulation._components.design.test

    @property
    def no_local_models(self) -> str:
        """Why there are no local models of clients, or ""."""
        if self.simulation.algorithm.pools:
            return f"{self.label} has none; it trains one model on the data of all"
        missing = lost(self.simulation) if self.model_only else ()
        if not missing:
            return ""
        return (
            f"{path_in(self.folder, self.label)} holds the global model of {self.label} alone; "
            f"its clients train from {', '.join(missing)} too, which went with the state when the "
            "run was done"
        )

    def model(self) -> nn.Module:
        """The global model, a module of its own in evaluation mode."""
        return self.filled(self.global_row())

    def local_models(self, ids: Sequence[int]) -> list[nn.Module]:
        """`local_rows` of these clients, each as a module of its own in evaluation mode."""
        return [self.filled(row) for row in self.local_rows(ids)]

    def global_row(self) -> Tensor:
        """The global model, a copy `[S]`."""
        return self.simulation._components.engine.state.row.clone()

    def local_rows(self, ids: Sequence[int]) -> Tensor:
        """The models of these clients `[K, S]` after the local steps of the run's next round.

        They start from what the server sends, with the state that the run keeps of each client.
        A client's model does not depend on the others; where it diverges, all of it is nan. Raises
        ValueError for clients that do not exist or take no step, and for the reasons that
        `no_local_models` names.
        """
        if not len(ids):
            return self.global_row().new_zeros(0, self.layout.stride)
        if why := self.no_local_models:
            raise ValueError(f"clients: {why}")
        clients, cohort = self.data.num_clients, self.simulation._components.design.cohort
        for i in ids:
            if not 0 <= i < clients:
                raise ValueError(f"clients: expected ids below {clients}; got {i}")
        who = np.asarray(list(ids), dtype=np.int64)
        if len(set(who.tolist())) < len(who):
            raise ValueError(f"clients: expected each once; got {who.tolist()}")
        return torch.cat([self._trained(part) for part in np.split(who, _cuts(who, cohort))])

    def personal_rows(self, ids: Sequence[int]) -> Tensor:
        """The personal models of these clients `[K, S]`. Raises ValueError where none are kept."""
        if self.model_only:
            path = path_in(self.folder, self.label)
            raise ValueError(f"clients: {path} holds the global model of {self.label} alone")
        personal = self.simulation._components.personal
        return torch.stack([personal.row(i).clone() for i in ids])

    def filled(self, row: Tensor) -> nn.Module:
        """A module of its own with the weights of a row `[S]`, in evaluation mode."""
        module = copy_of(self.module)
        self.layout.write(row, module)
        return module.eval()

    def _trained(self, ids: np.ndarray) -> Tensor:
        parts = self.simulation._components
        engine, drawing = parts.engine, parts.design.schedule.drawing
        if drawing is None:
            raise ValueError("clients: expected a run whose rounds are drawn, not written down")
        t, sizes = len(engine.committed.rows), drawing.sizes[ids]
        plan = drawn_round(drawing.seed, t, ids, sizes, drawing.cut)
        if not plan.steps.all():
            i = int(ids[np.flatnonzero(plan.steps == 0)[0]])
            raise ValueError(f"clients: client {i} takes no step: it has too few samples")
        again = None
        if engine.algorithm.server.rehearses:
            again = drawn_round(drawing.seed, t + EXCHANGE, ids, sizes, drawing.cut)
        lr, epochs = parts.design.lr(t), engine.options.local_epochs
        engine.models.wanted = True
        forget_recording()
        with training(parts):
            work = Work(t, plan, lr, epochs, self.data.num_clients, again)
            done = engine.train(work, engine.state)
        found = torch.empty(len(ids), self.layout.stride, dtype=self.layout.dtype)
        found[torch.from_numpy(done.order)] = engine.models_of(done).cpu()
        # The engine puts what was sent in the place of a model that is not finite.
        found[torch.from_numpy(np.isin(ids, done.tally.diverged))] = torch.nan
        return found


def _cuts(ids: np.ndarray, cohort: int) -> list[int]:
    return list(range(cohort, len(ids), cohort))
