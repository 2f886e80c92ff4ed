"""A local step from its gradient: the direction, what is folded into passes, learning rates."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from . import kernels
from .algorithms.hooks import Clients
from .correction import Correction, correction_of
from .design import Design
from .executor import ClipBound, Executor, Fold
from .fusion_rules import Fusions
from .kernels._args import Coefficient
from .live_buffers import ActiveRows, LiveBuffers
from .phases import timed
from .read_only import class_names

CLIP_EPS = 1e-6  # as `kernels.step`, and torch's clip_grad_norm_


class LocalUpdate:
    """What becomes of a gradient in one run's steps.

    watched   whether the algorithm looks at models after each step
    corrects  whether its direction is folded into passes, or into whole local training
    """

    def __init__(
        self, design: Design, executor: Executor, live: LiveBuffers, fusions: Fusions
    ) -> None:
        self.options, self.algorithm = design.options, design.algorithm
        self.executor, self.live, self.fusions = executor, live, fusions
        self.watched, self.plain = self.algorithm.watched, self.algorithm.plain
        self.corrects = (fusions.folds or fusions.resident) and not self.plain

    def correction(self, at: Clients) -> Correction | None:
        """What is added to the gradient in all steps of the round, of algorithms that do."""
        if not self.corrects:
            return None
        return correction_of(self.algorithm.direction(at), at, self.live.addend)

    def fold(self, lr: float | Tensor, base: Tensor, added: Correction | None) -> Fold:
        """The step at rate `lr` from `base` [K, trained], for passes that take it themselves."""
        share, (alpha, beta) = 1.0 if added is None else added.share, self.factors(lr, base, added)
        clip, addend = self.options.clip_norm, added.row if added and added.terms else None
        bound = None if clip is None else ClipBound(clip / share, self.live.g, CLIP_EPS / share)
        local = self.algorithm.local
        return Fold(alpha, beta, base, bound, addend, False, local.momentum, local.nesterov)

    def factors(
        self, lr: float | Tensor, base: Tensor, added: Correction | None = None
    ) -> tuple[Coefficient, Coefficient]:
        """Of the gradient and of `base` [K, ...] in a step at rate `lr`.

        Plans and graphs read them from where they lie: another rate needs no other recording.
        """
        share, decay = (1.0, 0.0) if added is None else (added.share, added.weight_decay)
        alpha, beta = -lr * share, 1.0 - lr * (self.options.weight_decay + decay)
        held = self.live.active(len(base)).factors
        for to, number in zip(held, (alpha, beta), strict=True):
            to.copy_(number) if isinstance(number, Tensor) else to.fill_(number)
        return held

    def alike(self, at: Clients) -> Fold | None:
        """What is folded into all steps of the round alike, with what it adds written down; None
        where they are not."""
        lr = self.algorithm.rate(at)
        if not (self.fusions.folds and steady(at, lr)):
            return None
        added = self.correction(at)
        if added and added.terms:
            added.apply(self.options.backend)
        return self.fold(lr, at.w, added)

    def rate(self, at: Clients, lr: float | Tensor) -> Tensor | None:
        """[K], where clients' rates are the same in all steps: of the rows' dtype, made once."""
        if not steady(at, lr):
            return None
        held = self.live.rate[: len(at)]
        return held.copy_(lr) if isinstance(lr, Tensor) else held.fill_(lr)

    def step_rate(self, at: Clients) -> float | Tensor:
        """The learning rate of the step at hand, of all clients or of each [K]."""
        (lr,) = at.by_step(self._rates)
        return lr

    def _rates(self, at: Clients) -> tuple[float | Tensor]:
        return (self.algorithm.rate(at),)

    @timed("step")
    def descend(self, at: Clients, lr: float | Tensor, rows: ActiveRows) -> None:
        """The step at rate `lr` along the algorithm's direction: `at.w` -> `rows.w`."""
        options, local = self.options, self.algorithm.local
        direction = self.algorithm.direction(at)
        bare = direction.terms is at.g and direction.w_ref is None
        # Hooks of one's own may have changed the gradient since its squares were written.
        norms = self.fusions.norms and bare and self.plain
        kernels.step(
            at.w,
            direction.terms,
            lr,
            out=rows.w,
            w_ref=direction.w_ref,
            lam=direction.lam,
            weight_decay=options.weight_decay + direction.weight_decay,
            clip_norm=options.clip_norm,
            squares=self.executor.squares(at.g) if norms else None,
            momentum=local.momentum,
            nesterov=local.nesterov,
            m=rows.m,
            backend=options.backend,
        )

    def after_step(self, at: Clients, out: Tensor) -> None:
        """The algorithm's look at the models `out` [K, trained] behind a step.

        Raises ValueError where the hook puts another tensor in their place.
        """
        after = replace(at, w=out)
        self.algorithm.after_step(after)
        if after.w is not out:
            raise ValueError(
                f"at.w: expected to be changed in place in after_step of "
                f"{class_names(self.algorithm)}; got another tensor, which nothing reads"
            )


def steady(at: Clients, lr: float | Tensor) -> bool:
    """Whether a client's learning rate is the same in all steps of a round."""
    return isinstance(lr, float) or (isinstance(at.lr, Tensor) and at.decay == 1.0)
