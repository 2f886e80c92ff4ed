"""What algorithms are composed of: components, whose hooks the engine calls during a round.

A component (local optimizer, drift correction, server rule) names the rows it keeps and answers
the hooks that it overrides; the engine gathers, scatters, sums and double-buffers. A hook does
arithmetic on rows through the fused operations only and never loops over parameters or clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..kernels import PlacedRows
from ..kernels._args import Coefficient, TermsLike
from ._hook_checks import Hooked, base
from .client_view import Clients as Clients
from .client_view import HostNumbers as HostNumbers
from .client_view import NamedRows as NamedRows
from .client_view import Rows as Rows
from .composition import Composition as Composition
from .server_view import Cohort as Cohort
from .server_view import ServerView as ServerView
from .server_view import Sum as Sum
from .trained_layout import TrainedLayout as TrainedLayout


@dataclass(frozen=True)
class Direction:
    """What `kernels.step` descends along: sum of terms + lam (w - w_ref) + weight_decay w.

    The clip acts on terms and the proximal part; weight decay joins after it.
    """

    terms: TermsLike
    w_ref: Tensor | None = None
    lam: Coefficient = 0.0
    weight_decay: float = 0.0


@base
@dataclass(frozen=True)
class Component(Hooked):
    """One part of an algorithm. Everything defaults to: keeps nothing, changes nothing.

    start_losses  whether it reads `start_loss`, which costs a pass over all samples of a cohort
    in_place      whether it reads its client rows as `at.came` only and writes all of them as
                  `at.kept`: they are then used where they lie. Said in each class anew
    """

    name: ClassVar[str] = ""
    server_rows: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[tuple[int, int]] = (0, 0)  # model sizes (down, up) beside the model itself
    start_losses: ClassVar[bool] = False
    in_place: ClassVar[bool] = False
    _derived: ClassVar[tuple[str, ...]] = ()  # properties that follow from the hooks

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name in cls._derived:
            if isinstance(vars(cls).get(name), bool) or vars(cls).get(name) == "":
                delattr(cls, name)  # an attribute of the class cannot contradict its hooks

    def refuses(self, algorithm: Composition) -> str:
        """Why this component has no meaning within `algorithm`, or ""."""
        return ""

    def client_rows(self) -> Mapping[str, str]:
        """Rows kept for every client across rounds: name -> "zeros", "start" or "model".

        "zeros" and "start" are what a row holds when its client takes part for the first time:
        zeros, or the model that it was sent. "model" is the client's own last model, written by
        the engine after the last local step, the run's initial model before: its personal model.
        It is as wide as the whole row, for running statistics are part of it.
        """
        return {}

    def scratch_rows(self) -> Sequence[str]:
        """Rows [K, trained] needed during a round only, found in `Clients.scratch`."""
        return ()

    def held_numbers(self, layout: TrainedLayout) -> tuple[int, int]:
        """How many numbers of a client its hooks ask for with `by_step` and with `by_chunk`.

        For the memory plan of a run on CUDA alone: room is made for whatever is asked for.
        """
        return 0, 0

    def client_values(self, layout: TrainedLayout) -> Rows:
        """Small state kept for every client: name -> what all start with. Checks the layout."""
        return {}

    def server_values(self, layout: TrainedLayout) -> Rows:
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

    def settle(self, server: ServerView, cohort: Cohort, numbers: Rows) -> None:
        """After the sums: whatever else changes in the server's rows and scalars."""

    def added(self) -> Mapping[str, float]:
        """Server rows that join the new global model: name -> coefficient."""
        return {}


def keep_rows(at: Clients, name: str, clients: Tensor) -> None:
    """Some clients, by position [n] int64, keep a row that is used where it lies."""
    came, kept = at.came[name], at.kept[name]
    if isinstance(came, PlacedRows) and isinstance(kept, PlacedRows):
        kept.only(clients).copy_(came.only(clients))


def listed(terms: TermsLike) -> list[tuple[Tensor | PlacedRows, Coefficient]]:
    """Terms as a list of (rows, coefficient)."""
    many = [terms] if isinstance(terms, Tensor | PlacedRows) else terms
    return [t if isinstance(t, tuple) else (t, 1.0) for t in many]
