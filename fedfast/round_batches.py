"""The batches of a chunk of clients, from the schedule's rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from .batches import ChunkBatches, Packing
from .client_loop import LocalTrainer
from .client_samples import ClientSamples
from .client_sampling import Round
from .phases import timed


class RoundBatches:
    """Batches as wide as the run's widest."""

    def __init__(self, data: ClientSamples, width: int) -> None:
        self.data, self.width = data, width

    @timed("schedule")
    def __call__(
        self, trainer: LocalTrainer, t: int, plan: Round, chosen: np.ndarray
    ) -> ChunkBatches:
        """Of the clients at the positions `chosen` of a round."""
        index, count, packing = plan.packed(chosen)
        # The executor's buffers hold the run's width, which `plan` may not fill.
        index = pad(index, (0, self.width - plan.width))
        return self._made(trainer, t, plan.clients[chosen], index, count, packing)

    @timed("schedule")
    def everything(
        self, trainer: LocalTrainer, t: int, clients: np.ndarray, width: int
    ) -> ChunkBatches:
        """All samples of `clients`, once and in their order, `width` at a time.

        Who is done before a later client is has batches of no samples.
        """
        sizes = self.data.sizes(clients)
        steps = np.maximum.accumulate(-(-sizes[::-1] // width))[::-1]
        packing = Packing.of(steps)
        first, own = packing.step * width, sizes[packing.client]
        slot = first[:, None] + np.arange(width)
        index = np.where(slot < own[:, None], slot, 0)
        count = np.clip(own - first, 0, width).astype(np.int32)
        rows = torch.from_numpy(index), torch.from_numpy(count)
        return self._made(trainer, t, clients, *rows, packing)

    def _made(
        self,
        trainer: LocalTrainer,
        t: int,
        clients: np.ndarray,
        index: Tensor,
        count: Tensor,
        packing: Packing,
    ) -> ChunkBatches:
        whose = clients[packing.client]
        rows = self.data.rows(whose, index[:, None])[:, 0]
        draws = trainer.pipeline.draw(t, whose, packing.step, index.shape[1])
        seeds = trainer.seeds(t, whose, packing.step)
        return ChunkBatches(t, clients, rows, count, packing, draws, seeds)
