"""From a torch optimizer to what a `Cohort` computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from ... import SAM, SGD
from ...algorithms import Algorithm, Average, Component, FedAvg, FedProx, by_name
from .unsupported import Unsupported

KEPT = 4096  # rules: as many learning rates may be met in a round


@dataclass(frozen=True)
class LocalRule:
    """What a cohort is made for, and the learning rate of one message."""

    algorithm: str | Algorithm
    weight_decay: float
    lr: float


class LocalRules:
    """The rules of one declared optimizer, each found once."""

    def __init__(self, optimizer: object) -> None:
        self.optimizer = optimizer
        self._found: dict[tuple[float | None, float], LocalRule] = {}

    def of(self, lr: float | None, mu: float) -> LocalRule:
        """See `local_rule`."""
        if (lr, mu) not in self._found:
            if len(self._found) >= KEPT:
                self._found.clear()
            self._found[lr, mu] = local_rule(self.optimizer, lr, mu)
        return self._found[lr, mu]


def local_rule(optimizer: object, lr: float | None, mu: float) -> LocalRule:
    """The rule of a declared optimizer with this learning rate (None: its own) and proximal mu.

    Raises Unsupported for optimizers that a cohort has no rule for.
    """
    if isinstance(optimizer, (str, Algorithm)):
        return _named(optimizer, lr, mu)
    if not callable(optimizer):
        raise Unsupported(f"optimizer {optimizer!r}: expected a class of torch.optim")
    made = _made(optimizer, lr)
    if len(made.param_groups) != 1:
        raise Unsupported("an optimizer with groups of parameters")
    group = made.param_groups[0]
    local = _local(made, group)
    algorithm = FedProx(local=local, mu=mu) if mu else FedAvg(local=local)
    return LocalRule(algorithm, float(group["weight_decay"]), float(group["lr"]))


def _named(optimizer: str | Algorithm, lr: float | None, mu: float) -> LocalRule:
    """An algorithm's local part, where that is all its clients need beside the model they get."""
    algorithm = by_name(optimizer) if isinstance(optimizer, str) else optimizer
    values = any(type(p).client_values is not Component.client_values for p in algorithm.components)
    keeps = values or algorithm.client_rows() or algorithm.server_rows()
    if keeps or algorithm.traffic() != (1, 1) or type(algorithm.server) is not Average:
        raise Unsupported(
            f"the algorithm {algorithm.name}, whose clients keep or get more than the model, or "
            "which has a server of its own: the server is Flower's strategy"
        )
    if mu:
        raise Unsupported(f"a proximal term under {algorithm.name}: name FedProx(mu=...) instead")
    if lr is None:
        raise Unsupported(f"no learning rate for {algorithm.name}: say declare(lr=...)")
    return LocalRule(algorithm, 0.0, lr)


def _made(optimizer: Callable[..., object], lr: float | None) -> Optimizer:
    own = [nn.Parameter(torch.zeros(1))]
    try:
        made = optimizer(own) if lr is None else optimizer(own, lr=lr)
    except TypeError as error:
        given = "no learning rate" if lr is None else f"lr={lr:g}"
        raise Unsupported(f"optimizer: called with {given}: {error}") from error
    if not isinstance(made, Optimizer):
        raise Unsupported(f"optimizer: expected a torch optimizer; got {type(made).__name__}")
    return made


def _local(made: Optimizer, group: dict[str, object]) -> SGD:
    """SGD, or the `SAM` of many repositories (rho, adaptive, base_optimizer) over SGD."""
    base = getattr(made, "base_optimizer", None)
    inner = made if base is None else base
    if type(inner) is not torch.optim.SGD:
        raise Unsupported(f"the optimizer {type(inner).__name__}: SGD and SAM over SGD are batched")
    for name in ("dampening", "maximize"):
        if group[name]:
            raise Unsupported(f"SGD with {name}={group[name]!r}")
    heavy = {"momentum": group["momentum"], "nesterov": bool(group["nesterov"])}
    if base is None:
        return SGD(**heavy)  # type: ignore[arg-type]
    if group.get("adaptive"):
        raise Unsupported("SAM(adaptive=True): name the rule, Training(optimizer='fedasam')")
    return SAM(rho=group["rho"], **heavy)  # type: ignore[arg-type,return-value]
