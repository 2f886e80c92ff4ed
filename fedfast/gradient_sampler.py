"""Gradients on samples of a component's own choice, by the path that the local steps take."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .client_loop import Batches, LocalTrainer
from .data import FederatedData

DRAWS = 1 << 23  # random numbers of local steps are counted from 0, those of probes from here


class GradientSampler:
    """See `algorithms.objective.GradientSampler`; running statistics are left alone.

    round  keys the random numbers that a module draws
    width  B of all batches
    """

    def __init__(self, trainer: LocalTrainer, data: FederatedData, round: int, width: int) -> None:
        self.trainer, self.data, self.round, self.width = trainer, data, round, width

    def __call__(
        self,
        ids: np.ndarray,
        index: np.ndarray,
        count: np.ndarray,
        w: Tensor,
        out: Tensor,
        draw: int,
    ) -> Tensor:
        """The mean losses [k] at `w` [k, trained], the gradients in `out`."""
        trainer, clients = self.trainer, len(ids)
        sample = self.data.rows(torch.from_numpy(ids), torch.from_numpy(index)[:, None])
        counts = torch.from_numpy(count.astype(np.int32))[:, None]
        batches = Batches(self.round, ids, sample, counts)
        batch = trainer.batch(0, clients, batches, draw=DRAWS + draw)
        losses = trainer.spare[:clients]
        trainer.path.gradients(w, trainer.w[:clients], batch, out, losses, True)
        return losses
