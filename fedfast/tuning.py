"""Fine-tuning: clients train the final model, or its last layer, each for itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from . import kernels
from .engine import Engine
from .local import Batches
from .schedule import Round


def tune(engine: Engine, t: int, plan: Round, lr: float, span: tuple[int, int]) -> Tensor:
    """What the clients of `plan` make of `row[a:b]` of the global model: [C, b - a] in its order.

    t     keys random numbers
    span  (a, b); what lies outside is frozen. Beyond the trained region running statistics move
    A client whose weights become non-finite keeps the global model's.
    """
    engine.trainer.w[:] = engine.state.row
    chunk, order = engine.settings.chunk, np.argsort(-plan.steps, kind="stable")
    tuned = engine.state.row.new_empty(len(order), span[1] - span[0])
    for begin in range(0, len(order), chunk):
        chosen = order[begin : begin + chunk]
        batches = _widened(engine.batches(t, plan, chosen), engine.settings.width)
        tuned[torch.from_numpy(chosen).to(tuned.device)] = _chunk(engine, batches, lr, span)
    return tuned


def _chunk(engine: Engine, batches: Batches, lr: float, span: tuple[int, int]) -> Tensor:
    """Plain SGD steps of a chunk; returns the tuned part [K, b - a]."""
    trainer, (a, b) = engine.trainer, span
    settings, last = trainer.settings, min(b, trainer.about.trained)
    w = trainer.w[: len(batches.clients)]
    w[:, a:b] = engine.state.row[a:b]
    for s, count in enumerate(batches.count.ne(0).sum(dim=0).tolist()):
        batch, g = trainer.batch(s, count, batches), trainer.g[:count]
        keep = b <= trainer.about.trained
        trainer.path.gradients(w[:count], w[:count], batch, g, trainer.losses[:count], keep)
        part = w[:count, a:last]
        kernels.step(
            part,
            g[:, a:last],
            lr,
            out=part,
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
            backend=settings.backend,
        )
    bad = ~w[:, a:b].isfinite().all(dim=1)
    w[bad, a:b] = engine.state.row[a:b]
    return w[:, a:b]


def _widened(batches: Batches, width: int) -> Batches:
    """The same batches, as wide as those of the rounds: that is what the path's buffers hold."""
    missing = width - batches.sample.shape[2]
    return replace(batches, sample=pad(batches.sample, (0, missing)))
