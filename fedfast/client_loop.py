"""The client loop: K clients' local steps over the run's few live buffers.

    source = the global row (first step: read in place, no broadcast copy), then w
    [g = gradient(source);  ahead = ascent(source, g);]  g = gradient(ahead or source)
    w = step(source, direction)

Clients come with their step counts descending, so those still training at any step are a prefix of
every buffer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .algorithms import Algorithm
from .algorithms._hook_checks import depth, overrides
from .algorithms.hooks import Clients, TrainedLayout
from .algorithms.optimizers import SAM, Optimizer
from .fusion_rules import folds, is_plain_sam, recorder_for, shown
from .input_pipeline import Draws, InputPipeline
from .layout import FlatLayout
from .lr_schedules import at_round
from .module_executor import Minibatch, ModuleExecutor, Seeds
from .programs import ClipBound, Fold, ProgramExecutor, SamStep
from .programs.cuda_graph import Inputs, Replay
from .random import DROPOUT, Ints, keys64
from .read_only import class_names


@dataclass(frozen=True)
class LocalSettings:
    """What the run fixes for every local step.

    client_decay  factor on a client's rate for each local epoch it has done
    """

    algorithm: Algorithm
    weight_decay: float
    clip_norm: float | None
    seed: int
    backend: str
    epochs: int = 1
    client_decay: float = 1.0


@dataclass(frozen=True)
class Batches:
    """A chunk's work, clients with more steps first.

    clients  [K] ids
    sample   [K, T, B] rows of the data bank
    count    [K, T] samples of each step, 0 where a client is done
    draws    how each step's images are augmented, if they are
    seeds    [T, K] int64 of each step's random layers, where they are known before it
    """

    round: int
    clients: np.ndarray
    sample: Tensor
    count: Tensor
    draws: Draws | None = None
    seeds: Tensor | None = None


class LocalTrainer:
    """Owns the live buffers of a run (`w, ahead, g, first, m`) and trains a chunk at a time."""

    def __init__(
        self,
        settings: LocalSettings,
        layout: FlatLayout,
        path: ModuleExecutor | ProgramExecutor,
        feed: InputPipeline,
        chunk: int,
    ) -> None:
        self.settings, self.layout, self.path = settings, layout, path
        self.algorithm, local = settings.algorithm, settings.algorithm.local
        self.feed, device = feed, feed.x.device

        def trained() -> Tensor:
            return layout.bank(chunk, device, full=False)

        self.w = layout.bank(chunk, device)
        self.g = trained()
        self.ahead = trained() if local.ascends else None
        self.first = trained() if local.keeps else None
        self.m = trained() if local.momentum else None
        self.own = {
            name: layout.bank(chunk, device, full=kind == "model")
            for name, kind in self.algorithm.client_rows().items()
        }
        self.scratch = {name: trained() for name in self.algorithm.scratch_rows()}
        self.losses = torch.zeros(chunk, dtype=layout.dtype, device=device)
        self.spare = torch.zeros_like(self.losses)
        self.folds = folds(self.algorithm, settings.clip_norm, layout, path)
        # Both passes in one leave `ahead` half written, which hooks of the user's may look at.
        hidden = isinstance(path, ProgramExecutor) and not shown(self.algorithm)
        self.fuses_sam = hidden and is_plain_sam(local)
        clip = settings.clip_norm
        self.bound = ClipBound(clip, self.g) if self.folds and clip is not None else None
        clips = settings.clip_norm is not None
        self.grad_norms = path.grad_norms() if clips and isinstance(path, ProgramExecutor) else None
        self.watched = self.algorithm.watched
        self.own_rate = overrides(self.algorithm, "rate", Algorithm)
        # Only what nobody looks at between the two passes may be left out of them.
        fused = local.layered and not local.keeps and not overrides(local, "terms", Optimizer)
        self.layered = fused and hidden
        older = local.layered and depth(local, "scales") < depth(local, "ascend")
        self.ascend = partial(Optimizer.ascend, local) if older else local.ascend
        self.about = about(layout, device)
        recorder = recorder_for(settings.algorithm, path, device)
        if settings.client_decay != 1.0:
            recorder = None  # recorded steps have the round's rate
        self.replay = None if recorder is None else Replay(recorder, chunk)

    def train(
        self, start: Tensor, batches: Batches, at: Clients, everything: Batches | None = None
    ) -> Tensor:
        """Train a chunk from the row `start` [S]; the models are `self.w[:K]` afterwards.

        at          the chunk as the algorithm sees it, with its state gathered
        everything  all local samples once, where the algorithm wants the full gradient
        Returns the summed losses [K] float64 (each step's mean loss times its samples).
        """
        clients = len(at)
        w = self.w[:clients]
        w[:, self.layout.trained :] = start[self.layout.trained :]
        self.count(w, batches)
        if self.m is not None:
            self.m.zero_()
        if everything is not None:
            at.start_loss = self._over_all(everything, at)
        at.w = self._starts(at)
        self.algorithm.begin(at)
        active = batches.count.ne(0).sum(dim=0).tolist()
        if active[0] < clients:
            w[active[0] :] = start
        lr = self.algorithm.rate(at)
        if self._at_once(batches) and not self.own_rate and isinstance(lr, float):
            return self._all_steps(at, batches, lr)
        total = torch.zeros(clients, dtype=torch.float64, device=w.device)
        batches = self._seeded(batches)
        chunk = None if self.replay is None else self.replay.begin(start, batches, at.lr)
        for s, (count, going) in enumerate(zip(active, [*active[1:], 0], strict=True)):
            if chunk is None:
                now = at.prefix(count)
                now.going = going
                self._step(s, now, batches)
            else:
                chunk.run(s, count, partial(self._again, at.prefix(count), s == 0))
            at.w = w[:, : self.layout.trained]
            total[:count] += self.losses[:count].double() * batches.count[:count, s].to(w.device)
        return total

    def count(self, w: Tensor, batches: Batches) -> None:
        """Move BatchNorm's counters of batches by a chunk's steps; the generic path does it itself.

        They are read by no layer, so that all steps can be counted at once.
        """
        if isinstance(self.path, ProgramExecutor) and self.layout.counters:
            steps, times = batches.count.ne(0).sum(dim=1).to(w), self.path.program.counters
            for slot in self.layout.counters:
                w[:, slot.offset] += times[slot.name] * steps

    def _at_once(self, batches: Batches) -> bool:
        """Whether nothing but folded steps happens between the first and the last."""
        ours = isinstance(self.path, ProgramExecutor) and self.path.plannable
        simple = self.folds and not self.watched and batches.draws is None
        return ours and simple and self.replay is None and (self.ahead is None or self.fuses_sam)

    def _all_steps(self, at: Clients, batches: Batches, lr: float) -> Tensor:
        """Client after client instead of step after step; the same to the bit."""
        path, w, view = self.path, self.w[: len(at)], self.feed.view(None, 0, len(at))
        assert isinstance(path, ProgramExecutor)
        numbers = -lr, 1.0 - lr * self.settings.weight_decay
        where = batches.sample.to(view.bank.device), batches.count
        how = *where, *numbers, self._sharp(at), self.bound
        total = path.descend(at.w, w, (view, self.feed.y), *how)
        at.w = w[:, : self.layout.trained]
        return total

    def _sharp(self, at: Clients) -> SamStep | None:
        """SAM's radius and workspace, where the path takes both of its passes."""
        local = self.algorithm.local
        if not self.fuses_sam or at.ahead is None or not isinstance(local, SAM):
            return None
        return SamStep(at_round(local.rho, at.round), local.eps, at.g, at.ahead)

    def _starts(self, at: Clients) -> Tensor:
        """The models before the first step: their own where the algorithm says so."""
        own = self.w[: len(at), : self.layout.trained]
        return own if self.algorithm.starts(at, own) else at.start.expand_as(own)

    def _over_all(self, everything: Batches, at: Clients) -> Tensor:
        """The mean loss over all local samples at `start`, [K] float64; `scratch["full"]`, where
        there is one: its gradient."""
        full, carried = at.scratch.get("full"), self.w[: len(at)]
        if full is not None:
            full.zero_()
        loss = torch.zeros_like(at.sizes)
        share = everything.count.to(at.sizes) / at.sizes[:, None]
        # Who is done repeats a sample, with no weight; twice, for BatchNorm takes no single one.
        some = everything.count.where(everything.count > 0, min(2, everything.sample.shape[2]))
        for s in range(some.shape[1]):
            batch = self.batch(s, len(at), replace(everything, count=some))
            self.path.gradients(at.w, carried, batch, at.g, self.spare[: len(at)], True)
            loss += share[:, s] * self.spare[: len(at)].double()
            if full is not None:
                kernels.step(full, [(at.g, share[:, s])], -1.0, out=full, backend=at.backend)
        return loss

    def _again(self, at: Clients, first: bool, now: Inputs) -> None:
        """A step that reads nothing but live buffers and `now`, and can be recorded."""
        start = now.start[: self.layout.trained]
        own = self.w[: len(at), : self.layout.trained]
        at = replace(at, start=start, w=start.expand_as(own) if first else own)
        self._step(0, at, now.batch, now.lr[: len(at)])

    def _step(self, s: int, at: Clients, batches: Batches, given: Tensor | None = None) -> None:
        """Step `s` of `batches`; given: the learning rate [K] where it is not the algorithm's."""
        settings, active = self.settings, len(at)
        at.step, source, out = s, at.w, self.w[:active, : self.layout.trained]
        batch = self.batch(s, active, batches)
        lr = self.algorithm.rate(at) if given is None else given
        if self.folds and (given is not None or isinstance(lr, float)):
            fold = Fold(-lr, 1.0 - lr * settings.weight_decay, source, self.bound)
            self._gradient(at, batch, out, dict(fold=fold))
        else:
            self._gradient(
                at, batch, at.g, {} if self.grad_norms is None else dict(grad_norms=self.grad_norms)
            )
            self._descend(at, lr, out)
        if self.watched:
            shown = replace(at, w=out)
            self.algorithm.after_step(shown)
            if shown.w is not out:
                raise ValueError(
                    f"at.w: expected to be changed in place in after_step of "
                    f"{class_names(self.algorithm)}; got another tensor, which nothing reads"
                )

    def _descend(self, at: Clients, lr: float | Tensor, out: Tensor) -> None:
        settings, local = self.settings, self.algorithm.local
        direction = self.algorithm.direction(at)
        bare = direction.terms is at.g and direction.w_ref is None
        # Hooks of one's own may have changed the gradient since its squares were noted.
        grad_norms = self.grad_norms if bare and self.algorithm.plain else None
        squares = None if grad_norms is None else grad_norms.gathered(at.g, settings.backend)
        kernels.step(
            at.w,
            direction.terms,
            lr,
            out=out,
            w_ref=direction.w_ref,
            lam=direction.lam,
            weight_decay=settings.weight_decay + direction.weight_decay,
            clip_norm=settings.clip_norm,
            squares=squares,
            momentum=local.momentum,
            nesterov=local.nesterov,
            m=None if self.m is None else self.m[: len(at)],
            backend=settings.backend,
        )

    def batch(self, s: int, active: int, batches: Batches, draw: int | None = None) -> Minibatch:
        """The samples of step `s`; `draw` keys its random numbers, if they are not the step's."""
        rows = batches.sample[:active, s].to(self.feed.x.device)
        seeds: Seeds | None = None
        if self.path.random and batches.seeds is not None:
            seeds = batches.seeds[s, :active]
        elif self.path.random:
            seeds = self._seeds(batches, active, s if draw is None else draw).tolist()
        view = self.feed.view(batches.draws, s, active)
        return self.path.batch(view, self.feed.y, rows, batches.count[:active, s], seeds)

    def _gradient(self, at: Clients, batch: Minibatch, out: Tensor, extra: dict[str, Any]) -> None:
        """The step's gradient `[active, trained]` into `out`: at `w` or at its ascent."""
        local, carried = self.algorithm.local, self.w[: len(at)]
        losses, spare = self.losses[: len(at)], self.spare[: len(at)]
        extra = extra | self._objective(at, False)
        if at.ahead is None:
            self.path.gradients(at.w, carried, batch, out, losses, False, **extra)
            return
        sharp = self._sharp(at)
        if sharp is not None and isinstance(self.path, ProgramExecutor):
            self.path.sam_gradients(at.w, carried, batch, out, losses, sharp, **extra)
        elif self.layered and isinstance(self.path, ProgramExecutor):
            length = self.path.first_pass(at.w, carried, batch, at.g, losses)
            scales = local.scales(at, length)
            self.path.second_pass(at.w, carried, batch, out, scales, at.g, at.ahead, **extra)
        elif local.looks:
            first = at.g if at.first is None else at.first
            first_pass = self._objective(at, True)
            if first_pass:  # another loss, which is not the one on record
                losses, spare = spare, losses
            self.path.gradients(at.w, carried, batch, first, losses, False, **first_pass)
            self.ascend(at, first, at.ahead)
            # The loss on record and the running statistics are the model's own: the second pass
            # keeps both.
            self.path.gradients(at.ahead, carried, batch, out, spare, True, **extra)
        else:
            self.ascend(at, None, at.ahead)
            self.path.gradients(at.ahead, carried, batch, out, losses, False, **extra)

    def _objective(self, at: Clients, looking: bool) -> dict[str, Any]:
        """The keyword for `gradients` where the algorithm has a loss of its own."""
        local = self.algorithm.local
        own = local.objective(at, looking) if local.own_loss else None
        return {} if own is None else dict(objective=own)

    def _seeded(self, batches: Batches) -> Batches:
        """With the seeds of all steps where the step's operations read them."""
        if not (self.path.random and isinstance(self.path, ProgramExecutor)):
            return batches
        steps = np.arange(batches.count.shape[1])[:, None]
        seeds = torch.from_numpy(self._seeds(batches, len(batches.clients), steps))
        return replace(batches, seeds=seeds.to(self.feed.x.device))

    def _seeds(self, batches: Batches, active: int, s: int | Ints) -> Ints:
        """One 63-bit seed per client for step s; both SAM passes see the same dropout masks."""
        ids = batches.clients[:active]
        keys = keys64(self.settings.seed, batches.round, ids, DROPOUT + 256 * s, 1)[..., 0]
        return (keys >> np.uint64(1)).astype(np.int64)


def about(layout: FlatLayout, device: torch.device) -> TrainedLayout:
    """What algorithms may know of the model."""
    slots = [slot for slot in layout.slots if slot.trained]
    return TrainedLayout(
        names=tuple(slot.name for slot in slots),
        shapes=tuple(tuple(slot.shape) for slot in slots),
        segments=layout.segments(device),
        trained=layout.trained,
        head=layout.head,
        dtype=layout.dtype,
    )
