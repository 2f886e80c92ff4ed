"""Fine-tuning: clients train the final model, or its last layer, each for itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .batches import ChunkBatches
from .client_loop import LocalTrainer
from .client_sampling import Round
from .distributed.rounds import spread_rows
from .distributed.shares import Shares
from .engine import Engine
from .executor import LocalStep, StepTensors
from .transfers import sent_to


def tune(
    engine: Engine, row: Tensor, t: int, plan: Round, lr: float, span: tuple[int, int]
) -> Tensor:
    """What the clients of `plan` make of `row[a:b]`: [C, b - a] in its order.

    row   [S], the global model
    t     keys random numbers
    span  (a, b); what lies outside is frozen. Beyond the trained region running statistics move
    A client whose weights become non-finite keeps the global model's.
    """
    order, ranks = np.argsort(-plan.steps, kind="stable"), engine.ranks
    found = row.new_empty(len(order), span[1] - span[0])
    shares = None if ranks is None else Shares.of(plan.steps[order], ranks.size)
    part = slice(0, len(order)) if ranks is None or shares is None else shares.part(ranks.rank)
    begin = part.start
    while begin < part.stop:

        def work(trainer: LocalTrainer, chunk: int, begin: int = begin) -> int:
            end = min(begin + chunk, part.stop)
            batches = engine.batches(trainer, t, plan, order[begin:end])
            found[begin:end] = _chunk(trainer, row, batches, lr, span)
            return end - begin

        begin += engine.trainers.use(work)
    if ranks is not None and shares is not None:
        spread_rows(ranks, found, shares)
    tuned = torch.empty_like(found)
    tuned[sent_to(torch.from_numpy(order), row.device)] = found
    return tuned


def _chunk(
    trainer: LocalTrainer, row: Tensor, batches: ChunkBatches, lr: float, span: tuple[int, int]
) -> Tensor:
    """Plain SGD steps of a chunk from `row` [S]; returns the tuned part [K, b - a]."""
    options, trained, (a, b) = trainer.options, trainer.layout.trained, span
    w, last = trainer.live.w[: len(batches.clients)], min(b, trained)
    w[:] = row
    if b > trained:
        trainer.executor.count_batches(w, batches)
    step, batches = LocalStep(keep_buffers=b <= trained), batches.to(row.device)
    for s, count in enumerate(batches.active):
        batch, active = trainer.batch(s, count, batches), trainer.live.active(count)
        g, part = trainer.live.g[:count], w[:count, a:last]
        tensors = StepTensors(active.models, active.models, g, active.losses)
        trainer.executor.gradients(step, tensors, batch)
        kernels.step(
            part,
            g[:, a:last],
            lr,
            out=part,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm,
            backend=options.backend,
        )
    found = w[:, a:b]
    sound = found.isfinite().all(dim=1, keepdim=True)  # a mask as an index would be waited for
    return torch.where(sound, found, row[a:b], out=found)
