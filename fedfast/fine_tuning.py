"""Fine-tuning: clients train the final model, or its last layer, each for itself."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .batches import ChunkBatches, Minibatch
from .client_loop import LocalTrainer
from .client_sampling import Round
from .distributed.rounds import spread_rows
from .distributed.shares import Shares
from .engine import Engine
from .executor import LocalStep, StepTensors
from .recorded_steps import RecordedSteps
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
    (a, b), w = span, trainer.live.w[: len(batches.clients)]
    w[:] = row
    if b > trainer.layout.trained:
        trainer.executor.count_batches(w, batches)
    if trainer.tuning is None:
        _each_step(trainer, batches.to(row.device), lr, span)
    else:
        _each_recorded(trainer, trainer.tuning, batches, lr, span)
    found = w[:, a:b]
    sound = found.isfinite().all(dim=1, keepdim=True)  # a mask as an index would be waited for
    return torch.where(sound, found, row[a:b], out=found)


def _each_step(
    trainer: LocalTrainer, batches: ChunkBatches, lr: float, span: tuple[int, int]
) -> None:
    for s, count in enumerate(batches.active):
        _step(trainer, trainer.batch(s, count, batches), lr, span)


def _each_recorded(
    trainer: LocalTrainer,
    steps: RecordedSteps,
    batches: ChunkBatches,
    lr: float,
    span: tuple[int, int],
) -> None:
    """Recorded once for each number of clients, for all rates: these lie in memory."""
    rates = trainer.live.rate.fill_(lr)
    steps.begin_tuning(batches)
    for count in batches.active:
        steps.tune(count, partial(_step, trainer, lr=rates[:count], span=span))


def _step(
    trainer: LocalTrainer, batch: Minibatch, lr: float | Tensor, span: tuple[int, int]
) -> None:
    """One step of the first clients, of whom each has a part of the batch."""
    options, trained, (a, b) = trainer.options, trainer.layout.trained, span
    rows, g = trainer.live.active(len(batch.x)), trainer.live.g[: len(batch.x)]
    tensors = StepTensors(rows.models, rows.models, g, rows.losses)
    trainer.executor.gradients(LocalStep(keep_buffers=b <= trained), tensors, batch)
    moved = slice(a, min(b, trained))
    part = rows.models[:, moved]
    kernels.step(
        part,
        g[:, moved],
        lr,
        out=part,
        weight_decay=options.weight_decay,
        clip_norm=options.clip_norm,
        backend=options.backend,
    )
