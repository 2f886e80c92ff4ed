"""The batches of a chunk of clients, from the schedule's rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .ahead import WORTH, Ahead
from .batches import ChunkBatches, Packing
from .client_loop import LocalTrainer
from .client_samples import ClientSamples
from .client_sampling import Round
from .phases import timed
from .round_lines import LineBatches, packed_lines


class RoundBatches:
    """Batches as wide as the run's widest."""

    def __init__(self, data: ClientSamples, width: int) -> None:
        self.data, self.width = data, width
        self.ahead: Ahead | None = None

    @timed("schedule")
    def __call__(
        self, trainer: LocalTrainer, t: int, plan: Round, chosen: np.ndarray
    ) -> ChunkBatches:
        """Of the clients at the positions `chosen` of a round."""
        ahead, clients = self.ahead, plan.clients[chosen]
        found = None if ahead is None else ahead.take(plan, chosen)
        found = found or self.drawing(plan, chosen)
        rows, count = found.made()
        if ahead is not None and rows.numel() >= WORTH:
            ahead.prepare(plan, chosen, len(trainer.live.w))
        packing = found.packing
        assert packing is not None
        if self.data.data.order.device.type != "cpu":
            rows = self._rows(clients, rows, packing)
        return self._made(trainer, t, clients, rows, count, packing)

    def drawing(self, plan: Round, chosen: np.ndarray) -> LineBatches:
        """See `Ahead`; the index is of the data's rows on the CPU, of clients' own elsewhere."""
        packing = Packing.of(plan.steps[chosen])
        lines = packed_lines(len(chosen), packing, self.width)
        made = plan.fill(chosen, lines, self.data.owned(plan.clients[chosen]))
        return LineBatches(made.index, made.count, made.draw, packing)

    def written(self) -> tuple[int, ...]:
        """See `Taker`."""
        data = self.data.data
        return id(data), data.order._version, data.offsets._version

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
        rows = self._rows(clients, torch.from_numpy(index), packing)
        return self._made(trainer, t, clients, rows, torch.from_numpy(count), packing)

    def _rows(self, clients: np.ndarray, index: Tensor, packing: Packing) -> Tensor:
        """The data's rows of clients' own places [n, B]."""
        return self.data.rows(clients[packing.client], index[:, None])[:, 0]

    def _made(
        self,
        trainer: LocalTrainer,
        t: int,
        clients: np.ndarray,
        rows: Tensor,
        count: Tensor,
        packing: Packing,
    ) -> ChunkBatches:
        draws = seeds = None
        if trainer.pipeline.augment is not None or trainer.executor.random:
            draws = trainer.pipeline.draw(t, clients, packing, rows.shape[1])
            seeds = trainer.seeds(t, clients, packing)
        return ChunkBatches(t, clients, rows, count, packing, draws, seeds)
