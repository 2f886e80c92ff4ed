"""What algorithms are composed of: pieces, and what the engine shows them of a round.

A piece (local optimizer, drift correction, server rule) names the rows it keeps and answers when
it is asked; the engine gathers, scatters, sums and double-buffers. A piece does arithmetic on
rows only through the fused operations and never loops over parameters or clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..kernels import Segments
from ..kernels._args import Coefficient, TermsLike
from .objective import Probe

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
    probe: Probe
    going: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def prefix(self, count: int) -> Clients:
        """The first `count` clients: views, nothing is copied."""
        if count == len(self):
            return self
        parts: dict[str, Any] = {name: getattr(self, name) for name in _PER_CLIENT}
        cut: dict[str, Any] = {name: None if t is None else t[:count] for name, t in parts.items()}
        for name in _TABLES:
            cut[name] = {row: t[:count] for row, t in getattr(self, name).items()}
        return replace(self, **cut)

    def epoch(self, step: int) -> Tensor:
        """The local epoch that `step` belongs to, for each client. [K] float64"""
        return (step * self.epochs / self.steps).floor()


_PER_CLIENT = ("ids", "sizes", "steps", "lr_total", "w", "g", "first", "ahead")
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


@dataclass(frozen=True)
class Piece:
    """One part of an algorithm. Everything defaults to: keeps nothing, changes nothing."""

    name: ClassVar[str] = ""
    server_rows: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[tuple[int, int]] = (0, 0)  # model sizes (down, up) beside the model itself

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

    def finish(self, at: Clients) -> Rows:
        """After the last local step: update `at.own`, `at.values`; return numbers [K, ...]."""
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


def overrides(piece: Any, method: str, of: type) -> bool:
    """Whether a piece has its own version of a method of `of`."""
    return getattr(type(piece), method) is not getattr(of, method)
