"""The batches of a chunk of clients, from the schedule's rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from .batches import ChunkBatches
from .client_loop import LocalTrainer
from .client_samples import ClientSamples
from .client_sampling import Round


class RoundBatches:
    """Batches as wide as the run's widest."""

    def __init__(self, data: ClientSamples, width: int) -> None:
        self.data, self.width = data, width

    def __call__(
        self, trainer: LocalTrainer, t: int, plan: Round, chosen: np.ndarray
    ) -> ChunkBatches:
        """Of the clients at the positions `chosen` of a round."""
        index, count = plan.batches(chosen)
        steps = int(count.ne(0).sum(dim=1).max()) if len(chosen) else 0
        # The executor's buffers hold the run's width, which `plan` may not fill.
        index = pad(index[:, :steps], (0, self.width - plan.width))
        return self._made(trainer, t, plan.clients[chosen], index, count[:, :steps])

    def everything(
        self, trainer: LocalTrainer, t: int, clients: np.ndarray, width: int
    ) -> ChunkBatches:
        """All samples of `clients`, once and in their order, `width` at a time."""
        sizes = self.data.sizes(clients)
        slot = np.arange(-(-int(sizes.max()) // width) * width).reshape(-1, width)
        real = slot[None] < sizes[:, None, None]
        index, count = np.where(real, slot[None], 0), real.sum(-1).astype(np.int32)
        rows = torch.from_numpy(index), torch.from_numpy(count)
        return self._made(trainer, t, clients, *rows)

    def _made(
        self,
        trainer: LocalTrainer,
        t: int,
        clients: np.ndarray,
        index: Tensor,
        count: Tensor,
    ) -> ChunkBatches:
        _, steps, width = index.shape
        rows = self.data.rows(clients, index)
        draws = trainer.pipeline.draw(t, clients, steps, width)
        seeds = trainer.seeds(t, clients, np.arange(steps))
        return ChunkBatches(t, clients, rows, count, draws, seeds)
