"""`Algorithm`: a local optimizer under a drift correction under a server rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from .._messages import format_value
from .._renamed_modules import Alias
from ..registry import class_registry
from ._hook_checks import Hooked, base, check_hooks, named, overrides, returned
from ._return_checks import kept_rows, number_rows, row_sums
from .drift import Drift
from .finetune import FineTune
from .hooks import Clients, Cohort, Component, Direction, Rows, ServerView, Sum, TrainedLayout
from .optimizers import SGD, Optimizer
from .servers import Average, ServerRule

ALGORITHMS = class_registry("algorithm", "Algorithm", lambda: Algorithm)


@base
@dataclass(frozen=True)
class Algorithm(Hooked):
    """Base of every algorithm, a composition of three components; the default is FedAvg.

    local   the clients' optimizer: SGD, SAM, ASAM, ...
    drift   what is added to its direction, and the state that needs: none, prox, dual, ...
    server  how the global model follows from the clients' updates

    fine_tune    what clients do with the final model, for themselves alone
    keep_models  whether every client keeps its last local model as its personal one, tested on
                 its own test part in every tested round (the protocol of FedFSA's authors)
    """

    local: Optimizer = field(default_factory=SGD)
    drift: Drift = field(default_factory=Drift)
    server: ServerRule = field(default_factory=Average)
    fine_tune: FineTune | None = field(default=None, kw_only=True)
    keep_models: bool = field(default=False, kw_only=True)

    name: ClassVar[str] = ""
    down: ClassVar[int] = 1  # model sizes a client receives per round, its components' extras aside
    up: ClassVar[int] = 1  # and sends
    official: ClassVar[tuple[int, int] | None] = None  # (down, up) of official code, if it differs
    verified: ClassVar[str] = "script"  # held to a "script" of its formula, or a "public run"
    pools: ClassVar[bool] = False  # all data belongs to one client
    on_host: ClassVar[frozenset[str]] = frozenset()  # client values that stay on the CPU

    def __post_init__(self) -> None:
        self.compose()

    def compose(self, **components: Component) -> None:
        """Set the components that follow from an algorithm's parameters, and check the whole."""
        for name, component in components.items():
            object.__setattr__(self, name, component)
        check_combination(self)

    @property
    def components(self) -> tuple[Component, ...]:
        """The components, in the order in which their hooks are called."""
        return self.local, self.drift, self.server

    pieces = Alias("components")

    def direction(self, at: Clients) -> Direction:
        """What the step descends along, before clipping and weight decay."""
        found = self.drift.correct(at, self.local.terms(at))
        return found if isinstance(found, Direction) else _no_direction(self.drift, found)

    @property
    def personal(self) -> str | None:
        """The client row that holds the clients' own models, None where nobody keeps them."""
        return next((name for name, kind in self.client_rows().items() if kind == "model"), None)

    @property
    def gradients(self) -> int:
        """Gradients per local step."""
        return 1 + int(self.local.looks)

    @property
    def plain(self) -> bool:
        """Whether a step descends along the gradient at `ahead` and nothing else."""
        simple = not overrides(self.local, "terms", Optimizer)
        return simple and not overrides(self, "direction", Algorithm) and self.drift.plain

    @property
    def constant(self) -> bool:
        """Whether a step descends along the gradient at `ahead` and what is the same all round."""
        own = overrides(self, "direction", Algorithm)
        return self.plain or (self.local.single and self.drift.constant and not own)

    @property
    def watched(self) -> bool:
        """Whether anything happens after each local step."""
        own = any(overrides(component, "after_step", Component) for component in self.components)
        return own or overrides(self, "after_step", Algorithm)

    @property
    def uploads(self) -> bool:
        """Whether clients send something else than the model they end with."""
        own = any(overrides(component, "upload", Component) for component in self.components)
        return own or overrides(self, "upload", Algorithm)

    @property
    def client_decay(self) -> float:
        """Factor on a client's rate for each local epoch it has done; 1: rates are the round's."""
        return 1.0

    def rate(self, at: Clients) -> float | Tensor:
        """The learning rate of a step: one number, or one per client [K]."""
        if at.decay == 1.0:
            return at.lr
        return at.lr * at.decay ** (at.values["epochs"] + at.epoch(at.step))

    def lr_total(self, cohort: Cohort, values: Rows) -> Tensor:
        """Each client's learning rates summed over its steps. [C] float64"""
        if cohort.decay == 1.0:
            return cohort.steps * cohort.lr
        total = torch.zeros_like(cohort.steps)
        epochs = torch.as_tensor(cohort.epochs).to(total).expand_as(total)
        for e in range(int(epochs.max())):
            total += cohort.decay ** (values["epochs"] + e) * (e < epochs)
        return total * cohort.lr * cohort.steps / cohort.epochs

    def check_run(self, local_epochs: int, batch_size: int | None) -> None:
        """Raise ValueError where the run's settings contradict the algorithm."""

    def weights(self, sizes: Tensor, by_samples: bool) -> Tensor:
        """The p_k of the mean from the clients' numbers of samples. [C] float64 -> [C] float64"""
        raw = sizes if by_samples else torch.ones_like(sizes)
        return raw / raw.sum()

    def starts(self, at: Clients, out: Tensor) -> bool:
        """Write where each client starts to `out` [K, trained]; False: all at `at.start`."""
        return False

    def client_rows(self) -> dict[str, str]:
        """Client rows of all components, and the client's own model where that is kept."""
        rows = {k: v for p in self.components for k, v in kept_rows(p).items()}
        return rows | ({"v": "model"} if self.keep_models else {})

    def scratch_rows(self) -> tuple[str, ...]:
        """Scratch rows of all components."""
        return tuple(dict.fromkeys(name for p in self.components for name in p.scratch_rows()))

    def held_numbers(self, layout: TrainedLayout) -> tuple[int, int]:
        """Numbers of a client by step and by chunk that hooks of all components ask for."""
        found = [p.held_numbers(layout) for p in self.components]
        return sum(by_step for by_step, _ in found), sum(by_chunk for _, by_chunk in found)

    def client_values(self, layout: TrainedLayout) -> dict[str, Tensor]:
        """Client values of all components."""
        each = [named(p, "client_values", p.client_values(layout)) for p in self.components]
        return {k: v for found in each for k, v in found.items()}

    def server_rows(self) -> tuple[str, ...]:
        """Server rows of all components, each once."""
        return tuple(dict.fromkeys(name for p in self.components for name in p.server_rows))

    def server_values(self, layout: TrainedLayout) -> dict[str, Tensor]:
        """Server values of all components."""
        each = [named(p, "server_values", p.server_values(layout)) for p in self.components]
        return {k: v for found in each for k, v in found.items()}

    def server_scalars(self) -> dict[str, float]:
        """Server scalars of all components."""
        each = [named(p, "server_scalars", p.server_scalars()) for p in self.components]
        return {k: v for found in each for k, v in found.items()}

    def begin(self, at: Clients) -> None:
        """Before the first local step."""
        for component in self.components:
            component.begin(at)

    def after_step(self, at: Clients) -> None:
        """After each local step."""
        for component in self.components:
            component.after_step(at)

    def upload(self, at: Clients) -> None:
        """After the last local step: `at.w` in place into what is sent; see `Component.upload`."""
        for component in self.components:
            component.upload(at)

    def finish(self, at: Clients) -> dict[str, Tensor]:
        """After `upload`; numbers [K] by name. `at.w` is read only."""
        return {k: v for p in self.components for k, v in number_rows(p, p.finish(at), at).items()}

    def sums(self, cohort: Cohort) -> Sequence[Sum]:
        """How server rows follow from this round's clients."""
        rows = self.server_rows()
        return [s for p in self.components for s in row_sums(p, p.sums(cohort), rows, cohort)]

    def settle(self, server: ServerView, cohort: Cohort, numbers: Rows) -> None:
        """After the sums."""
        for component in self.components:
            component.settle(server, cohort, numbers)

    def added(self) -> dict[str, float]:
        """Server rows that join the new global model: name -> coefficient."""
        return {k: v for p in self.components for k, v in named(p, "added", p.added()).items()}

    def traffic(self) -> tuple[int, int]:
        """(down, up) in model sizes: what must cross the network per client and round at least.

        Clients and server may keep state where that saves traffic.
        """
        extra = [component.extra for component in self.components]
        return self.down + sum(d for d, _ in extra), self.up + sum(u for _, u in extra)


def check_combination(algorithm: Algorithm) -> None:
    """Raise TypeError for a part of a wrong kind, ValueError for parts that contradict another."""
    _check_kinds(algorithm)
    for part in (*algorithm.components, algorithm.fine_tune, algorithm):
        if part is not None:
            check_hooks(part)
    if overrides(algorithm, "starts", Algorithm) and algorithm.drift.client_rows():
        drift = algorithm.drift.name
        raise ValueError(
            f"{algorithm.name}: clients that start at models of their own under {drift}, whose "
            "state is measured from the model that is sent"
        )
    own_rate = overrides(algorithm, "rate", Algorithm)
    kept = [component.name for component in algorithm.components if component.server_rows]
    if own_rate and kept and not overrides(algorithm, "lr_total", Algorithm):
        raise ValueError(
            f"{type(algorithm).__name__}.rate: expected lr_total beside it, the sum of the rates "
            f"that {kept[0]} divides by; got rate alone"
        )
    for reason in (component.refuses(algorithm) for component in algorithm.components):
        if reason:
            raise ValueError(f"{algorithm.name or 'algorithm'}: {reason}")


def _check_kinds(algorithm: Algorithm) -> None:
    for name, kind in (("local", Optimizer), ("drift", Drift), ("server", ServerRule)):
        found = getattr(algorithm, name)
        if not isinstance(found, kind):
            raise TypeError(f"{name}: expected a {kind.__name__}; got {format_value(found)}")
    tune, keep = algorithm.fine_tune, algorithm.keep_models
    if not isinstance(tune, FineTune | None):
        raise TypeError(f"fine_tune: expected a FineTune or None; got {format_value(tune)}")
    if not isinstance(keep, bool):
        raise TypeError(f"keep_models: expected True or False; got {format_value(keep)}")


def _no_direction(drift: Drift, found: object) -> Direction:
    """Raise TypeError for what `correct` returned."""
    return returned(drift, "correct", found, Direction, "a Direction")
