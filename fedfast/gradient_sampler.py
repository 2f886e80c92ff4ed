"""Gradients on samples of an algorithm's own choice, by the executor of the local steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .batches import ChunkBatches, Packing
from .client_loop import LocalTrainer
from .client_samples import ClientSamples
from .executor import LocalStep, StepTensors

DRAWS = 1 << 23  # seeds of local steps are counted from 0, those of samplers from here


class GradientSampler:
    """See `algorithms.objective.GradientSampler`; running statistics are left alone.

    round  keys the random numbers that a module draws
    width  B of all batches
    """

    def __init__(self, trainer: LocalTrainer, data: ClientSamples, round: int, width: int) -> None:
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
        rows = self.data.rows(ids, torch.from_numpy(index)[:, None])
        counts = torch.from_numpy(count.astype(np.int32))
        seeds = trainer.seeds_at(self.round, ids, DRAWS + draw)
        packing = Packing.of(np.ones(clients, dtype=np.int64))
        batches = ChunkBatches(self.round, ids, rows[:, 0], counts, packing, seeds=seeds)
        active = trainer.live.active(clients)
        tensors = StepTensors(w, active.models, out, active.spare)
        batch = trainer.batch(0, clients, batches)
        trainer.executor.gradients(LocalStep(keep_buffers=True), tensors, batch)
        return active.spare
