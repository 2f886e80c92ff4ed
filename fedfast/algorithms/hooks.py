"""What algorithms are composed of: pieces, and what the engine shows them of a round.

A piece (local optimizer, drift correction, server rule) names the rows it keeps and answers when
it is asked; the engine gathers, scatters, sums and double-buffers. A piece does arithmetic on
rows only through the fused operations and never loops over parameters or clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..kernels import Segments
from ..kernels._args import Coefficient, TermsLike
from ..random import generators
from ._hook_checks import Hooked, base, overrides
from .objective import GradientSampler

Rows = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """What a piece may know of the model: its trained tensors in row order.

    names     of the tensors, as in `named_parameters`
    shapes    of the tensors
    segments  where they lie in a row
    trained   length of the row
    head      where the last Linear lies, (0, 0) where there is none
    dtype     of the rows
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    segments: Segments
    trained: int
    head: tuple[int, int]
    dtype: torch.dtype

    @property
    def parameters(self) -> int:
        """How many trained numbers there are; a row is longer, with zeros between its tensors."""
        return sum(b - a for a, b in self.segments.spans)

    def real(self, device: torch.device) -> Tensor:
        """Which places of a row are of a tensor. [trained] bool"""
        mask = torch.zeros(self.trained, dtype=torch.bool, device=device)
        for a, b in self.segments.spans:
            mask[a:b] = True
        return mask


class Table(dict[str, Tensor]):
    """State by name that is updated in place: `at.own["h"] = x` copies x into the row."""

    def __setitem__(self, name: str, value: Tensor) -> None:
        if name not in self:
            raise KeyError(f"{name!r} is no row or value of a piece; there are {sorted(self)}")
        held = self[name]
        if value is not held:
            held.copy_(value)


@dataclass
class Clients:
    """K clients of a round, at one local step or between steps.

    round, step  from 0
    going        how many of the clients, from the first, take another step after this one
    ids          [K] client ids
    sizes        [K] float64, samples of each
    steps        [K] float64, local steps of each in this round
    epochs       local epochs of the run
    lr           learning rate of the round
    lr_total     [K] float64, learning rates summed over the steps (K eta in the papers)
    seed         of the run
    start        [trained], the model that was sent to everybody
    w            [K, trained], the clients' models; before the first step a view of `start`
    g            [K, trained], the gradient of the step, at `ahead` where the optimizer ascends
    first        [K, trained], the gradient at `w` itself, for optimizers that keep it
    ahead        [K, trained], where `g` was taken, for optimizers that ascend
    own          client rows [K, trained] by name, to be updated in place; [K, S] for "model" rows
    scratch      rows [K, trained] by name that hold nothing between rounds
    values       small client state [K, ...] by name, to be updated in place
    server       server rows [trained] and values by name, and the rule's "moment"; read only
    scalars      server scalars by name, read only
    probe        gradients on samples of the piece's own choice
    decay        factor on a client's rate for each local epoch it has done
    train_loss   [K] float64, mean loss over the local steps; after the last one
    start_loss   [K] float64, loss of the model sent on all local samples, where asked for
    """

    layout: Layout
    backend: str
    round: int
    step: int
    ids: np.ndarray
    sizes: Tensor
    steps: Tensor
    epochs: int
    lr: float
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
    probe: GradientSampler
    going: int = 0
    decay: float = 1.0
    train_loss: Tensor | None = None
    start_loss: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

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
        parts: dict[str, Any] = {name: getattr(self, name) for name in _PER_CLIENT}
        cut: dict[str, Any] = {name: None if t is None else t[:count] for name, t in parts.items()}
        for name in _TABLES:
            cut[name] = Table({row: t[:count] for row, t in getattr(self, name).items()})
        return replace(self, **cut)

    def lr_so_far(self) -> float | Tensor:
        """The learning rates of the steps before this one, summed: a number, or one per client."""
        if self.decay == 1.0:
            return self.lr * self.step
        epochs = [self.values["epochs"] + self.epoch(s) for s in range(self.step)]
        return self.lr * sum((self.decay**e for e in epochs), torch.zeros_like(self.steps))

    def epoch(self, step: int) -> Tensor:
        """The local epoch that `step` belongs to, for each client. [K] float64"""
        return (step * self.epochs / self.steps).floor()


_PER_CLIENT = ("ids", "sizes", "steps", "lr_total", "w", "g", "first", "ahead", "start_loss")
_TABLES = ("own", "scratch", "values")


@dataclass(frozen=True)
class Cohort:
    """All clients of a round, in processing order.

    ids         [C] client ids
    sizes       [C] float64, samples of each
    steps       [C] float64, local steps of each
    weights     [C] float64, the p_k of the mean (they sum to 1, but for FedSGD's sum)
    epochs      local epochs of the run
    lr_total    [C] float64, each client's learning rates summed over its steps (K eta)
    population  N
    seed        of the run
    backend     voice of the operations
    decay       see `Clients.decay`
    train_loss  [C] float64, mean losses over the local steps; in `reweigh` and `settle`
    start_loss  [C] float64, losses of the model sent on all local samples, where a piece asks
    numbers     what `finish` returned, [C, ...] by name; in `reweigh` and `settle`
    """

    round: int
    lr: float
    ids: np.ndarray
    sizes: Tensor
    steps: Tensor
    weights: Tensor
    lr_total: Tensor
    epochs: int
    population: int
    seed: int
    backend: str
    decay: float = 1.0
    train_loss: Tensor | None = None
    start_loss: Tensor | None = None
    numbers: Rows = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Sum:
    """A server row's rule at the end of a round: `row <- keep * row + sum_k weights_k * what_k`.

    weights  [C] float64, in processing order
    fade     what `keep` loses for every client that did not diverge
    of       None: the client's update `v_K - start`; else the name of a client or scratch row
    change   with `of`: what the row changed by in this round, not the row itself
    """

    row: str
    weights: Tensor
    keep: float = 1.0
    fade: float = 0.0
    of: str | None = None
    change: bool = False


@dataclass(frozen=True)
class Direction:
    """What `kernels.step` descends along: sum of terms + lam (w - w_ref) + weight_decay w.

    The clip acts on terms and the proximal part; weight decay joins after it.
    """

    terms: TermsLike
    w_ref: Tensor | None = None
    lam: Coefficient = 0.0
    weight_decay: float = 0.0


class Server:
    """What the server holds between rounds, as pieces see it: the model, rows and scalars.

    w        [trained], the global model
    m        [trained], the server rule's momentum, where it has one
    rows     [trained] by name
    values   small tensors by name
    scalars  numbers by name
    """

    w: Tensor
    m: Tensor | None
    rows: dict[str, Tensor]
    values: dict[str, Tensor]
    scalars: dict[str, float]


@base
@dataclass(frozen=True)
class Piece(Hooked):
    """One part of an algorithm. Everything defaults to: keeps nothing, changes nothing.

    start_losses  whether it reads `start_loss`, which costs a pass over all samples of a cohort
    """

    name: ClassVar[str] = ""
    server_rows: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[tuple[int, int]] = (0, 0)  # model sizes (down, up) beside the model itself
    start_losses: ClassVar[bool] = False

    def refuses(self, algorithm: Any) -> str:
        """Why this piece has no meaning within `algorithm`, or ""."""
        return ""

    def client_rows(self) -> Mapping[str, str]:
        """Rows kept for every client across rounds: name -> "zeros", "start" or "model".

        "zeros" and "start" say what a row holds when its client takes part for the first time:
        zeros, or the model that it was sent. "model" is the client's own last model, written by
        the engine after the last local step, the run's initial model before: its personal model.
        It is as wide as the whole row, for running statistics are part of it.
        """
        return {}

    def scratch_rows(self) -> Sequence[str]:
        """Rows [K, trained] needed during a round only, found in `Clients.scratch`."""
        return ()

    def client_values(self, layout: Layout) -> Rows:
        """Small state kept for every client: name -> what all start with. Checks the layout."""
        return {}

    def server_values(self, layout: Layout) -> Rows:
        """Small state the server keeps: name -> value before the first round. Checks the layout."""
        return {}

    def server_scalars(self) -> Mapping[str, float]:
        """Numbers the server keeps: name -> value before the first round."""
        return {}

    def begin(self, at: Clients) -> None:
        """Before the first local step."""

    def after_step(self, at: Clients) -> None:
        """After each local step; `at.w` is the new model."""

    def upload(self, at: Clients) -> None:
        """After the last local step: change `at.w` in place into what the client sends.

        For compression, clipping, quantisation, noise (`at.normal()`). The mean, every `Sum` and
        `finish` see what it leaves; a personal model is the client's own from before. Non-finite
        numbers count as a divergence of the client. What is written between tensors, where rows
        are padded with zeros (`at.layout.real`), is cleared.
        """

    def finish(self, at: Clients) -> Rows:
        """After `upload`: update `at.own`, `at.values`; return numbers [K, ...].

        `at.w` is read only.
        """
        return {}

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """How server rows follow from this round's clients."""
        return ()

    def settle(self, server: Server, cohort: Cohort, numbers: Rows) -> None:
        """After the sums: whatever else changes in the server's rows and scalars."""

    def added(self) -> Mapping[str, float]:
        """Server rows that join the new global model: name -> coefficient."""
        return {}


def listed(terms: TermsLike) -> list[tuple[Tensor, Coefficient]]:
    """Terms as a list of (tensor, coefficient)."""
    many = [terms] if isinstance(terms, Tensor) else terms
    return [t if isinstance(t, tuple) else (t, 1.0) for t in many]


__all__ = [
    "Clients",
    "Coefficient",
    "Cohort",
    "Direction",
    "Layout",
    "Piece",
    "Rows",
    "Server",
    "Sum",
    "TermsLike",
    "listed",
    "overrides",
]
