"""Runs a layer program: K clients' gradients layer by layer, through fused operations.

It takes the place of `ModuleExecutor.gradients`. Its buffers (`workspace.py`) are made once; a step
makes none. Every operation works on whole clients with a fixed batch width, so a client's bits do
not depend on its company.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from .. import kernels
from ..input_pipeline import View
from ..kernels.registry import choose
from ..layout import FlatLayout
from ..module_executor import Minibatch, Seeds
from .buffer_spec import BufferSpec
from .clip import ClipBound
from .context import Fold
from .elementwise import Dropout
from .grad_norms import GradNorms
from .plans import ChunkBuffers, PlanCache, place
from .program import Program
from .step_executor import SamStep, StepExecutor
from .workspace import BatchBuffers, elements


class ProgramExecutor:
    """Runs a `Program` for up to `clients` clients with batches of `width` samples."""

    def __init__(
        self,
        program: Program,
        layout: FlatLayout,
        clients: int,
        width: int,
        device: torch.device,
        backend: str,
        precision: str = "fp32",
    ) -> None:
        self.program, self.layout, self.backend = program, layout, backend
        self._batch: BatchBuffers | None = None
        self._work: ChunkBuffers | None = None
        self.random = any(isinstance(record, Dropout) for record in program.records)
        self._losses = torch.zeros(clients, dtype=layout.dtype, device=device)
        # Weights that several layers share, and random numbers, are not a plan's business.
        plain = not layout.aliases and not program.reuses
        plain = plain and all(record.repeats for record in program.records)
        voice = choose(backend, torch.empty(0, dtype=layout.dtype, device=device))
        self.plannable = plain and voice == "native"
        notes = voice == "triton" and not layout.aliases and not program.reuses
        spec = BufferSpec(clients, width, device)
        self._passes = StepExecutor(program, layout, spec, backend, precision, notes)
        # A clip rides on folded steps where no squares are noted and a norm takes a pass.
        self.clips = voice != "triton"
        activations = elements(program, program.values)
        self._planner = PlanCache(width * (layout.trained // 8 + activations))

    def batch(
        self, view: View, y: Tensor, rows: Tensor, count: Tensor, seeds: Seeds | None
    ) -> Minibatch:
        """The samples `rows` [K, B] of a bank, in this path's own buffer until the next batch."""
        clients = rows.shape[0]
        if self._batch is None or self._batch.x.shape[0] < clients:
            self._batch = BatchBuffers.of(view, y, rows)
        kept = self._batch.first(clients)
        view.take(rows, kept.x)
        kernels.gather(y, rows, out=kept.y, backend=self.backend)
        return Minibatch(kept.x, kept.y, kept.count.copy_(count), seeds)

    def gradients(
        self,
        w: Tensor,
        carried: Tensor,
        batch: Minibatch,
        g: Tensor,
        losses: Tensor,
        keep_carried: bool,
        fold: Fold | None = None,
        grad_norms: GradNorms | None = None,
    ) -> None:
        """Write each client's mini-batch gradient and loss; see `ModuleExecutor.gradients`.

        The batch is taken in its full width; what lies beyond a client's count adds nothing.
        fold   if given, `g` receives the weights after an SGD step instead of the gradient
        noted  if given, receives the squares of the gradient
        """
        banks = w, carried, g, losses
        where = "gradients", *place(w, carried, *_tensors(batch), g, losses), keep_carried
        self._do(
            _key(where, fold),
            w.shape[0],
            lambda: self._passes.once(banks, batch, keep_carried, fold, grad_norms),
        )

    def sam_gradients(
        self,
        w: Tensor,
        carried: Tensor,
        batch: Minibatch,
        out: Tensor,
        losses: Tensor,
        sharp: SamStep,
        fold: Fold | None = None,
        grad_norms: GradNorms | None = None,
    ) -> None:
        """Both passes of SAM: each client's gradient at `w + rho g / (|g| + eps)` into `out`.

        losses  those at w
        sharp   the radius, and workspace; its g may be out
        fold, noted   as in `gradients`, for out
        Running statistics are those of the first pass. See `programs/sam.py`.
        """
        banks = w, carried, out, losses
        where = "sharp", *place(*banks, *_tensors(batch)), *sharp.key
        self._do(
            _key(where, fold),
            w.shape[0],
            lambda: self._passes.twice(banks, batch, sharp, fold, grad_norms),
        )

    def first_pass(
        self, w: Tensor, carried: Tensor, batch: Minibatch, g: Tensor, losses: Tensor
    ) -> Tensor:
        """The gradient at w, for `leap`; returns |g| [K] float64. losses: those at w.

        g is workspace: what dense layers keep as factors is not in it.
        """
        banks, clients = (w, carried, g, losses), w.shape[0]
        where = "look", *place(*banks, *_tensors(batch))
        self._do(where, clients, lambda: self._passes.first_pass(banks, batch))
        return self._passes.squares(clients).sqrt()

    def second_pass(
        self,
        w: Tensor,
        carried: Tensor,
        batch: Minibatch,
        out: Tensor,
        scales: Tensor,
        g: Tensor,
        ahead: Tensor,
        fold: Fold | None = None,
        grad_norms: GradNorms | None = None,
    ) -> None:
        """Each client's gradient at `w + s_l g_l`, tensor by tensor, into `out`; after `look`.

        scales  [K, L], the s_l of the L trained tensors
        g       what `look` has seen
        ahead   workspace `[>= K, >= trained]`
        fold, noted   as in `gradients`
        """
        clients = w.shape[0]
        banks = w, carried, out, g[:clients], ahead[:clients]
        self._passes.scale(scales)
        where = "leap", *place(*banks, *_tensors(batch))
        self._do(
            _key(where, fold),
            clients,
            lambda: self._passes.second_pass(banks, batch, fold, grad_norms),
        )

    def descend(
        self,
        source: Tensor,
        w: Tensor,
        samples: tuple[View, Tensor],
        rows: Tensor,
        count: Tensor,
        alpha: float,
        beta: float,
        sharp: SamStep | None,
        bound: ClipBound | None = None,
    ) -> Tensor:
        """All local steps `w <- beta w + alpha g` of K clients, the first from `source`.

        source   `[K, >= trained]`, row stride 0 where all start from one; may be w
        w        `[K, S]`, receives the models; its carried region holds what the steps update
        samples  the bank as steps see it, and its labels
        rows     `[K, T, B]`, rows of the bank; count `[K, T]`, those of a step, 0 at the end
        sharp    if given, g is SAM's
        bound    if given, g is clipped
        Returns the clients' summed losses `[K]` float64 (a step's mean times its count).
        A client takes all its steps before the next one starts. Only where the path is `plannable`.
        Raises IndexError for rows or labels out of range.
        """
        if self._work is None or not self._work.holds(rows):
            self._work = ChunkBuffers(*samples, rows)
        work, clients, trained = self._work, rows.shape[0], self.layout.trained
        work.write(rows, count)
        steps = count.ne(0).sum(dim=1, dtype=torch.int32)
        plans = [
            self._step_plan(at, w, samples, work, Fold(alpha, beta, at, bound), sharp)
            for at in (source, w[:, :trained])
        ]
        plans[0].run_steps(plans[1], steps, self._planner.work)
        return work.total[:clients].clone()

    def _step_plan(
        self,
        source: Tensor,
        w: Tensor,
        samples: tuple[View, Tensor],
        work: ChunkBuffers,
        fold: Fold,
        sharp: SamStep | None,
    ) -> kernels.Plan:
        """One step from `source` to w."""
        clients, trained = w.shape[0], self.layout.trained
        losses = self._losses[:clients]

        def body() -> None:
            work.fetch(*samples, self.backend)
            x, y, count = (t[:clients] for t in (work.x, work.y, work.count_now))
            batch = Minibatch(x, y, count, None)
            banks = source, w, w[:, :trained], losses
            if sharp is None:
                self._passes.once(banks, batch, False, fold)
            else:
                self._passes.twice(banks, batch, sharp, fold)
            kernels.tally(losses, batch.count, work.total)

        where = place(source, w, samples[0].bank, samples[1], work.rows, losses)
        about = None if sharp is None else sharp.key
        return self._planner.plan(_key(("step", *where, about), fold), clients, body)

    def _do(self, key: Hashable, clients: int, body: Callable[[], None]) -> None:
        """Run `body`, by a plan where that is possible; None has no plan."""
        if self.plannable and key is not None:
            self._planner.plan(key, clients, body).run(clients, self._planner.work)
        else:
            body()

    def grad_norms(self) -> GradNorms | None:
        """Room for the squares of all gradients; None in voices where they take a pass."""
        return self._passes.grad_norms()


def _tensors(batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
    return batch.x, batch.y, batch.count


def _key(where: tuple[Hashable, ...], fold: Fold | None) -> Hashable:
    """What a plan is kept under; None where its numbers would change under it."""
    if fold is None:
        return where
    if isinstance(fold.alpha, Tensor) or isinstance(fold.beta, Tensor):
        return None
    bound = () if fold.bound is None else (fold.bound.norm, *place(fold.bound.g))
    return (*where, fold.alpha, fold.beta, *place(fold.base), *bound)
