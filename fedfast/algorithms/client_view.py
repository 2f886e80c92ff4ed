"""`Clients`: what hooks see of K clients of a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..kernels.placed import RowsLike
from ..lr_schedules import Schedulable, at_round
from ..random import generators
from .objective import SampleGradients
from .trained_layout import TrainedLayout

Rows = Mapping[str, Tensor]
PlacedByName = Mapping[str, RowsLike]


class Numbers(Protocol):
    """Where recorded steps read numbers of the round, the chunk and the step.

    All give one number, or row of them, for each client of the largest chunk.
    """

    def of(self, schedule: Schedulable, wide: bool) -> Tensor:
        """A schedule's value."""

    def by_step(self, numbers: NumberHook, at: Clients) -> Sequence[Tensor]:
        """What `numbers` says of the step at hand."""

    def by_chunk(self, numbers: NumberHook, at: Clients) -> Sequence[Tensor]:
        """What `numbers` says of the chunk at hand."""


class NamedRows(dict[str, Tensor]):
    """State by name that is updated in place: `at.own["h"] = x` copies x into the row."""

    def __setitem__(self, name: str, value: Tensor) -> None:
        if name not in self:
            raise KeyError(f"{name!r} is no row or value of a component; there are {sorted(self)}")
        held = self[name]
        if value is not held:
            held.copy_(value)


@dataclass(frozen=True)
class HostNumbers:
    """What the host knows of K clients: as in `Clients`, on the CPU."""

    sizes: Tensor
    steps: Tensor
    epochs: int | Tensor

    def first(self, count: int) -> HostNumbers:
        """Of the first clients."""
        epochs = self.epochs[:count] if isinstance(self.epochs, Tensor) else self.epochs
        return HostNumbers(self.sizes[:count], self.steps[:count], epochs)

    def epoch(self, step: int) -> Tensor:
        """The local epoch that `step` belongs to, for each client. [K] float64"""
        return (step * self.epochs / self.steps).floor()


@dataclass
class Clients:
    """K clients of a round, at one local step or between steps.

    round, step  from 0; where a step is recorded and repeated, `step` is a number in memory that
                 the device counts: hooks ask for what follows from it (`by_step`), and decide by
                 `fresh`
    fresh        whether this is the first local step
    going        how many of the clients, from the first, take another step after this one; before
                 the first, how many take one at all
    ids          [K] client ids
    sizes        [K] float64, samples of each
    steps        [K] float64, local steps of each in this round
    epochs       local epochs of the run; in a call of `Cohort.train` perhaps one number each [K]
    lr           learning rate of the round; there perhaps one for each client, [K] float64
    lr_total     [K] float64, learning rates summed over the steps (K eta in the papers)
    seed         of the run
    start        [trained], the model that was sent to everybody
    w            [K, trained], the clients' models; before the first step a view of `start`
    g            [K, trained], the gradient of the step, at `ahead` where the optimizer ascends
    first        [K, trained], the gradient at `w` itself, for optimizers that keep it
    ahead        [K, trained], where `g` was taken, for optimizers that ascend
    own          client rows [K, trained] by name, to be updated in place; [K, S] for "model" rows
    came, kept   the same rows as clients came with them, and as they keep them: `PlacedRows` for
                 components that are `in_place`, whose rows `own` lacks; else those of `own`
    scratch      rows [K, trained] by name that hold nothing between rounds
    values       small client state [K, ...] by name, to be updated in place
    server       server rows [trained] and values by name, and the rule's "moment"; read only
    scalars      server scalars by name, read only
    probe        gradients on samples of the component's own choice
    numbers      for `of_round`, `by_step` and `by_chunk` in recorded steps
    decay        factor on a client's rate for each local epoch it has done
    train_loss   [K] float64, mean loss over the local steps; after the last one
    start_loss   [K] float64, loss of the model sent, on all local samples, for who reads it
    recorded     whether the optimizer's `recorded` calls are done instead of `begin` and `ascend`
    renewed      whether the drift's `renewal` has been written, behind each client's last step
    known        sizes, steps and epochs on the host; see `on_host`
    noise        [K, ...], what the optimizer has drawn for the batches of this step
    """

    layout: TrainedLayout
    backend: str
    round: int
    step: int
    ids: np.ndarray
    sizes: Tensor
    steps: Tensor
    epochs: int | Tensor
    lr: float | Tensor
    lr_total: Tensor
    seed: int
    start: Tensor
    w: Tensor
    g: Tensor
    first: Tensor | None
    ahead: Tensor | None
    own: Rows
    scratch: Rows
    values: Rows
    server: Rows
    scalars: Mapping[str, float]
    probe: SampleGradients
    came: PlacedByName = field(default_factory=dict)
    kept: PlacedByName = field(default_factory=dict)
    going: int = 0
    fresh: bool = True
    numbers: Numbers | None = None
    decay: float = 1.0
    train_loss: Tensor | None = None
    start_loss: Tensor | None = None
    recorded: bool = False
    renewed: bool = False
    known: HostNumbers | None = None
    noise: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def on_host(self) -> HostNumbers:
        """Sizes, steps and epochs for decisions of the host's, which waits for no device."""
        return self.known or HostNumbers(self.sizes, self.steps, self.epochs)

    def generators(self, purpose: int = 0) -> list[torch.Generator]:
        """A generator for each client, on the device of `w`: K of them.

        Keyed by (seed, round, client, purpose) alone: what is drawn depends neither on who trains
        beside a client nor on chunks. Asked twice for a purpose it starts over.
        """
        return generators(self.seed, self.round, self.ids, purpose, self.w.device)

    def normal(self, purpose: int = 0) -> Tensor:
        """Standard normal numbers from `generators(purpose)`, 0 between tensors. [K, trained]"""
        out = torch.zeros(self.w.shape, dtype=self.w.dtype, device=self.w.device)
        real, drawn = self.layout.real(self.w.device), self.w.new_empty(self.layout.parameters)
        for row, generator in zip(out, self.generators(purpose), strict=True):
            row[real] = drawn.normal_(generator=generator)
        return out

    def prefix(self, count: int) -> Clients:
        """The first `count` clients: views, nothing is copied."""
        if count == len(self):
            return self
        parts = ((name, getattr(self, name)) for name in _PER_CLIENT)
        cut = {name: part[:count] for name, part in parts if part is not None}
        for name in _SHARED:
            part = getattr(self, name)
            if isinstance(part, Tensor):
                cut[name] = part[:count]
        for name in ("came", "kept"):
            cut[name] = {row: t[:count] for row, t in getattr(self, name).items()}
        for name in _TABLES:
            cut[name] = NamedRows({row: t[:count] for row, t in getattr(self, name).items()})
        cut["known"] = None if self.known is None else self.known.first(count)
        return replace(self, **cut)

    def of_round(self, value: Schedulable, wide: bool = False) -> float | Tensor:
        """A number, or what a schedule says in this round.

        In recorded steps a schedule's is [K], in memory that every round writes anew: of the rows'
        dtype, in float64 where it is `wide`.
        """
        if self.numbers is None or not callable(value):
            return at_round(value, self.round)
        return self.numbers.of(value, wide)[: len(self)]

    def by_step(self, numbers: NumberHook) -> Sequence[float | Tensor]:
        """`numbers(self)`: numbers that follow from `self.step`, each one number or [K].

        numbers  a function, or a method of a component: the same one at every step. It computes
                 with torch, element by element: in recorded steps it is asked once per chunk, with
                 all steps [T, 1] float64 in the place of `step`, and may answer [T, K]
        In recorded steps numbers are [K] of the rows' dtype, in memory that each step writes anew
        for the next: they cost no launch. Raises TypeError for answers that are no tuple or list.
        """
        if self.numbers is None:
            return numbers_of(numbers, self)
        return [n[: len(self)] for n in self.numbers.by_step(numbers, self)]

    def by_chunk(self, numbers: NumberHook) -> Sequence[float | Tensor]:
        """`numbers(self)`: numbers that are the same in all steps, each one number or [K, ...].

        In recorded steps they are asked for once per chunk, and are [K, ...] of the rows' dtype.
        Raises TypeError for answers that are no tuple or list.
        """
        if self.numbers is None:
            return numbers_of(numbers, self)
        return [n[: len(self)] for n in self.numbers.by_chunk(numbers, self)]

    def lr_so_far(self) -> float | Tensor:
        """The learning rates of the steps before this one, summed: a number, or one per client.

        Of all steps of a chunk (`by_step`), from the first on: [T, K].
        """
        if self.decay == 1.0:
            return self.lr * self.step
        if isinstance(self.step, Tensor):
            rates = self.decay ** (self.values["epochs"] + self.epoch(self.step))
            # Twice beside itself: a single column torch adds up in another order on CUDA.
            summed = torch.cat([rates, rates], dim=-1).cumsum(0)[..., : rates.shape[-1]][:-1]
            return self.lr * torch.cat([torch.zeros_like(rates[:1]), summed])
        epochs = [self.values["epochs"] + self.epoch(s) for s in range(self.step)]
        return self.lr * sum((self.decay**e for e in epochs), torch.zeros_like(self.steps))

    def epoch(self, step: int) -> Tensor:
        """The local epoch that `step` belongs to, for each client. [K] float64"""
        return HostNumbers(self.sizes, self.steps, self.epochs).epoch(step)


NumberHook = Callable[[Clients], Sequence[float | Tensor]]


def numbers_of(hook: NumberHook, at: Clients) -> Sequence[float | Tensor]:
    """What it answers. Raises TypeError unless that is a tuple or a list."""
    found = hook(at)
    if not isinstance(found, tuple | list):
        name = getattr(hook, "__qualname__", repr(hook))
        raise TypeError(f"{name}: expected a tuple of numbers; got {type(found).__name__}")
    return found


_PER_CLIENT = ("ids", "sizes", "steps", "lr_total", "w", "g", "first", "ahead", "start_loss")
_SHARED = ("epochs", "lr")  # numbers of all clients, or one for each
_TABLES = ("own", "scratch", "values")
