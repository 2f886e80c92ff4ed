"""The client loop: K clients' local steps over the run's few live buffers.

    source = the global row (first step: read in place, no broadcast copy), then w
    g = gradient(source);  [w_adv = ascent(source, g);  g = gradient(w_adv);]
    w = step(source, direction)

Clients come with their step counts descending, so those still training at any step are a prefix of
every buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .algorithms import Algorithm, LocalState
from .feed import Draws, Feed
from .generic import GenericPath, Minibatch
from .kernels._args import Coefficient
from .layout import FlatLayout
from .programs import Fold, ProgramPath
from .programs.graph import CudaRecorder, Inputs, Recorder, Replay
from .random import keys64

DROPOUT = 3  # purpose of a key, beside those of `random`: seeds of the module's own random numbers


@dataclass(frozen=True)
class LocalSettings:
    """What the run fixes for every local step."""

    algorithm: Algorithm
    weight_decay: float
    clip_norm: float | None
    seed: int
    backend: str


@dataclass(frozen=True)
class Batches:
    """A chunk's work, clients with more steps first.

    clients  [K] ids
    sample   [K, T, B] rows of the data bank
    count    [K, T] samples of each step, 0 where a client is done
    draws    how each step's images are augmented, if they are
    """

    round: int
    clients: np.ndarray
    sample: Tensor
    count: Tensor
    draws: Draws | None = None


class LocalTrainer:
    """Owns the live buffers `w, w_adv, g, m` of a run and trains one chunk of clients at a time."""

    def __init__(
        self,
        settings: LocalSettings,
        layout: FlatLayout,
        path: GenericPath | ProgramPath,
        feed: Feed,
        chunk: int,
    ) -> None:
        self.settings, self.layout, self.path = settings, layout, path
        self.feed = feed
        device, local = feed.x.device, settings.algorithm.local
        self.w = layout.bank(chunk, device)
        self.g = layout.bank(chunk, device, full=False)
        self.w_adv = layout.bank(chunk, device, full=False) if local.ascends else None
        self.m = layout.bank(chunk, device, full=False) if local.momentum else None
        self.losses = torch.zeros(chunk, dtype=layout.dtype, device=device)
        self.spare = torch.zeros_like(self.losses)
        self.folds = folds(settings, layout, path)
        self.segments = layout.segments(device)
        recorder = recorder_for(settings, path, device)
        self.replay = None if recorder is None else Replay(recorder, chunk)

    def train(self, start: Tensor, batches: Batches, lr: float) -> tuple[Tensor, Tensor]:
        """Train a chunk from the row `start` [S].

        Returns the clients' models, a view `[K, S]` of the live bank, and their summed losses
        `[K]` float64 (each step's mean loss times its number of samples).
        """
        clients = len(batches.clients)
        w = self.w[:clients]
        w[:, self.layout.trained :] = start[self.layout.trained :]
        if self.m is not None:
            self.m.zero_()
        counts = batches.count.tolist()
        chunk = None if self.replay is None else self.replay.begin(start, batches, lr)
        total = torch.zeros(clients, dtype=torch.float64, device=w.device)
        for s in range(batches.count.shape[1]):
            active = sum(1 for row in counts if row[s])
            if active < clients and s == 0:
                w[active:] = start
            if active == 0:
                break
            first = s == 0
            if chunk is None:
                self._step(s, active, start, batches, lr, first)
            else:
                chunk.run(s, active, partial(self._again, active, first))
            total[:active] += self.losses[:active].double() * batches.count[:active, s].to(w.device)
        return w, total

    def _again(self, active: int, first: bool, now: Inputs) -> None:
        """A step that reads nothing but live buffers and `now`, and can be recorded."""
        self._step(0, active, now.start, now.batch, now.lr[:active], first)

    def _step(
        self,
        s: int,
        active: int,
        start: Tensor,
        batches: Batches,
        lr: Coefficient,
        first: bool,
    ) -> None:
        trained = self.layout.trained
        w = self.w[:active, :trained]
        source = start[:trained].expand(active, -1) if first else w
        batch = self._batch(s, active, batches)
        settings = self.settings
        if self.folds:
            fold = Fold(-lr, 1.0 - lr * settings.weight_decay, source)
            self._gradient(active, source, batch, w, dict(fold=fold))
            return
        g = self._gradient(active, source, batch, self.g[:active], {})
        direction = settings.algorithm.direction(LocalState(source, start[:trained], g, lr))
        kernels.step(
            source,
            direction.terms,
            lr,
            out=w,
            w_ref=direction.w_ref,
            lam=direction.lam,
            weight_decay=settings.weight_decay + direction.weight_decay,
            clip_norm=settings.clip_norm,
            momentum=settings.algorithm.local.momentum,
            nesterov=settings.algorithm.local.nesterov,
            m=None if self.m is None else self.m[:active],
            backend=settings.backend,
        )

    def _batch(self, s: int, active: int, batches: Batches) -> Minibatch:
        rows = batches.sample[:active, s].to(self.feed.x.device)
        seeds = self._seeds(batches, active, s) if self.path.random else None
        view = self.feed.view(batches.draws, s, active)
        return self.path.batch(view, self.feed.y, rows, batches.count[:active, s], seeds)

    def _gradient(
        self, active: int, source: Tensor, batch: Minibatch, out: Tensor, extra: dict[str, Fold]
    ) -> Tensor:
        """The gradient for the step, `[active, trained]` into `out`: at `source` or its ascent."""
        w, losses = self.w[:active], self.losses[:active]
        if self.w_adv is None:
            self.path.gradients(source, w, batch, out, losses, False, **extra)
            return out
        g, ahead, local = self.g[:active], self.w_adv[:active], self.settings.algorithm.local
        self.path.gradients(source, w, batch, g, losses, False)
        local.ascend(source, g, ahead, self.segments, self.settings.backend)
        # The loss on record and the running statistics are the model's own: this pass keeps both.
        self.path.gradients(ahead, w, batch, out, self.spare[:active], True, **extra)
        return out

    def _seeds(self, batches: Batches, active: int, s: int) -> list[int]:
        """One 63-bit seed per client for this step; both SAM passes see the same dropout masks."""
        ids = batches.clients[:active]
        keys = keys64(self.settings.seed, batches.round, ids, DROPOUT + 256 * s, 1)[:, 0]
        return (keys >> np.uint64(1)).astype(np.int64).tolist()


def folds(settings: LocalSettings, layout: FlatLayout, path: GenericPath | ProgramPath) -> bool:
    """Whether a local step is `w - lr (g + decay w)` alone and can ride on the weight gradients."""
    plain = type(settings.algorithm).direction is Algorithm.direction
    simple = settings.clip_norm is None and not settings.algorithm.local.momentum
    if not (plain and simple and isinstance(path, ProgramPath)):
        return False
    # A weight that several layers read must not move before the last of them has read it.
    return not layout.aliases and not path.program.reuses


def recorder_for(
    settings: LocalSettings, path: GenericPath | ProgramPath, device: torch.device
) -> Recorder | None:
    """Who records steps on this device; nobody where a step would read more than `Inputs`."""
    steady = type(settings.algorithm).direction is Algorithm.direction
    if device.type != "cuda" or not isinstance(path, ProgramPath) or not steady:
        return None
    return CudaRecorder()
