"""Between the client loop and its executors: a step, its tensors, what an executor can do.

An executor computes the forward and backward pass of K clients' mini-batch. `ProgramExecutor` runs
layer programs, `ModuleExecutor` any module; both give the same up to rounding, and what they can
take into the pass beside the gradient is their `Capabilities`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from .algorithms.layer_radii import LayerRadii
from .algorithms.objective import Objective
from .batches import ChunkBatches, Minibatch
from .input_pipeline import SampleSource
from .kernels._args import Coefficient
from .kernels.packing import Packed


@dataclass(frozen=True)
class ClipBound:
    """The largest norm of a step's gradient, and workspace `[K, >= trained]` for gradients.

    eps  joins the norm, as in torch's `clip_grad_norm_`
    """

    norm: float
    g: Tensor
    eps: float = 1e-6

    @property
    def limit(self) -> float:
        """Up to which norm nothing is clipped."""
        return self.norm - self.eps


@dataclass(frozen=True)
class Fold:
    """An SGD step folded into the weight gradients: `out = beta * base + alpha * (g + addend)`.

    alpha, beta  numbers or `[K]`; a plan reads tensors of the rows' dtype anew in every run
    base   `[K, >= trained]`, row stride 0 where all clients start from one model
    bound  if given, g + addend is clipped
    addend `[K, >= trained]`, what corrects the gradient; row stride 0 where it is the same for all
    known  whether addend is what it was in the step before, so that its norm is known
    momentum, nesterov  of steps that `Capabilities.resident` covers, from velocities of zero
    """

    alpha: Coefficient
    beta: Coefficient
    base: Tensor
    bound: ClipBound | None = None
    addend: Tensor | None = None
    known: bool = False
    momentum: float = 0.0
    nesterov: bool = False

    def first(self, base: Tensor) -> Fold:
        """The same step of the first clients, from their models `base` [k, ...]."""
        clients = len(base)

        def cut(number: Coefficient) -> Coefficient:
            return number[:clients] if isinstance(number, Tensor) else number

        addend = None if self.addend is None else self.addend[:clients]
        return replace(self, alpha=cut(self.alpha), beta=cut(self.beta), base=base, addend=addend)


@dataclass(frozen=True)
class SamAscent:
    """The gradient at `w + rho g / (|g| + eps)`: both of SAM's passes in one call.

    rho       a number, or `[K]` of the rows' dtype, which a plan reads anew in every run
    g, ahead  workspace `[>= K, >= trained]` for the layers that need it; g may be the step's out
    radii     `[K]` float64 in the place of rho, to the bit what the number would give
    """

    rho: Coefficient
    eps: float
    g: Tensor
    ahead: Tensor
    radii: Tensor | None = None


@dataclass(frozen=True)
class ScaledAscent:
    """The gradient at `w + s_l g_l`, tensor by tensor: the second pass after `first_pass`.

    scales  [K, L], the s_l of the L trained tensors; None: what `first_pass` made of radii
    g       what the first pass wrote its gradient to
    ahead   workspace `[>= K, >= trained]`
    """

    scales: Tensor | None
    g: Tensor
    ahead: Tensor


@dataclass(frozen=True)
class RowAscent:
    """The gradient at `ahead`, which `first` writes at a client's first step, `later` at others.

    g      `[>= K, >= trained]`, receives the gradient at w before that; None where none is taken
    ahead  `[>= K, >= trained]`
    lanes  `[>= K, >= trained]` each, of these rows those that only a client's steps need: they may
           be the rows of the thread that works on it
    """

    first: RowUpdate
    later: RowUpdate
    g: Tensor | None
    ahead: Tensor
    lanes: Sequence[Tensor]


class RowUpdate(Protocol):
    """Operations on rows in the pass of a gradient, such as an optimizer's step behind it."""

    @property
    def key(self) -> tuple[Hashable, ...]:
        """The buffers and numbers that it works with: what its plan is kept under."""

    def apply(self, backend: str) -> None:
        """Do it, with the gradient (or what it was folded into) where the step wrote it."""


class RowFill(RowUpdate, Protocol):
    """What writes a row for each client that its steps then read."""

    @property
    def alike(self) -> Tensor | None:
        """[K] int64: clients of the same number have the same row. None: each its own."""


@dataclass(frozen=True)
class LocalStep:
    """Where a step's gradient is taken, and what the same pass does with it.

    ascent        None: at `w`; else SAM's, whose second pass keeps the running statistics;
                  `RowAscent` in `Executor.descend` alone
    fold          if given, `out` receives the weights after an SGD step instead of the gradient
    norms         whether `Executor.squares` will be asked for the gradient's
    keep_buffers  whether running statistics stay as they are
    objective     a loss in the place of the run's; of layer programs a `Divergence`, whose value
                  is not written to `StepTensors.losses`
    update        what follows in the same pass; executors that fold nothing have none of it
    correct       of `Executor.descend`: what writes `fold.addend` where each client has its own; it
                  may be the row of the thread that works on the client, or formed where it is added
    begin, end    of `Executor.descend`: what is written as a thread takes a client, and what
                  follows a client's last step
    """

    ascent: SamAscent | ScaledAscent | RowAscent | None = None
    fold: Fold | None = None
    norms: bool = False
    keep_buffers: bool = False
    objective: Objective | None = None
    update: RowUpdate | None = None
    correct: RowFill | None = None
    begin: RowFill | None = None
    end: RowUpdate | None = None


@dataclass(frozen=True)
class StepTensors:
    """What a step reads and writes, a row for each client.

    w        [K, >= trained]  models; row stride 0 where all clients share one
    buffers  [K, S]           rows whose tail holds the module's buffers, which the step updates
    out      [K, >= trained]  receives the gradient, or the weights of a folded step
    losses   [K]              receives the losses, under SAM those at w
    """

    w: Tensor
    buffers: Tensor
    out: Tensor
    losses: Tensor


@dataclass(frozen=True)
class Capabilities:
    """What an executor can do in one pass; the default is the gradient alone.

    folds   `LocalStep.fold`
    clips   `Fold.bound`
    sam     `LocalStep.ascent`, `first_pass`
    norms   `squares`: its products write the squares of their gradients
    plans   `descend`: all steps of a client run from a recorded plan
    graphs  a step only launches kernels, which a CUDA graph can repeat
    resident     `descend` in one launch, without a plan, for these (norms, momentum): whether SAM
                 or a clip measures gradients, whether weights have a velocity
    updates      `LocalStep.update`, `repeated`
    runs_module  the user's code runs: it may draw torch's random numbers and write into its inputs
    """

    folds: bool = False
    clips: bool = False
    sam: bool = False
    norms: bool = False
    plans: bool = False
    graphs: bool = False
    resident: frozenset[tuple[bool, bool]] = frozenset()
    updates: bool = False
    runs_module: bool = False


@dataclass(frozen=True)
class Descent:
    """All steps of a chunk of clients, ready to be run again and again: see `Executor.descend`.

    rows   [n, B], count [n]: the batches, which whoever runs it writes; `run` takes their offsets
    total  [2, K] float64, the summed losses after that
    """

    rows: Tensor
    count: Tensor
    total: Tensor
    run: Callable[[Tensor], None]


class Executor(Protocol):
    """Forward and backward passes of up to a chunk of clients.

    random  whether the module draws random numbers in training, from `Minibatch.seeds`
    """

    random: bool
    capabilities: Capabilities

    def batch(
        self, source: SampleSource, rows: Tensor, count: Tensor, seeds: Tensor | None
    ) -> Minibatch:
        """The samples `rows` [K, B]; they may lie in buffers that the next batch overwrites."""

    def fetch(self, source: SampleSource, packed: Packed) -> Minibatch:
        """The next samples of each client, in buffers that the next batch overwrites.

        Of executors with `Capabilities.graphs`.
        """
        raise TypeError(f"{type(self).__name__} records no steps")

    def gradients(self, step: LocalStep, tensors: StepTensors, batch: Minibatch) -> None:
        """Each client's mini-batch gradient, or folded step, and loss."""

    def repeated(
        self, step: LocalStep, tensors: StepTensors, batch: Minibatch
    ) -> Callable[[], None]:
        """`gradients` of these buffers, to be called step after step: whatever lies in them then.

        None of the batch's seeds is read anew.
        """
        raise TypeError(f"{type(self).__name__} has no repeated steps")

    def first_pass(
        self, tensors: StepTensors, batch: Minibatch, radii: LayerRadii | None = None
    ) -> Tensor | None:
        """The gradient at w, for a `ScaledAscent`; returns |g| [K] float64.

        With radii the scales of the second pass follow at once, and nothing is returned.
        `out` is workspace: what layers keep as factors is not in it.
        """
        raise TypeError(f"{type(self).__name__} has no first pass of SAM's")

    def descend(
        self, step: LocalStep, w: Tensor, source: SampleSource, batches: ChunkBatches
    ) -> Tensor:
        """All folded steps of K clients, the first from `step.fold.base`, the others from w.

        w  [K, S], receives the models; its tail holds the buffers that the steps update
        A client takes all its steps before the next one starts.
        Returns the clients' summed losses [2, K] float64: a step's mean times its count; its mean.
        Raises IndexError for rows or labels out of range.
        """
        raise TypeError(f"{type(self).__name__} takes a step at a time")

    def prepared(self, step: LocalStep, w: Tensor, source: SampleSource, rows: Tensor) -> Descent:
        """`descend` for batches of `rows` [n, B], and for others that are no more."""
        raise TypeError(f"{type(self).__name__} takes a step at a time")

    def products(self) -> dict[str, str]:
        """By layer, what forms its products where a table chooses (`kernels/choices.py`)."""
        return {}

    def squares(self, g: Tensor) -> Tensor | None:
        """[K, n] float64 whose sum over n is |g|^2 of the last step that wanted norms.

        g [K, >= trained] is its gradient. None where they take a pass of their own.
        """
        return None

    def count_batches(self, buffers: Tensor, batches: ChunkBatches) -> None:
        """Add a chunk's steps to BatchNorm's counters, where `gradients` leaves that out."""
        return None
