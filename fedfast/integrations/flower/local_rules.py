"""From a torch optimizer to what a `Cohort` computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from ... import SAM, SGD
from ...algorithms import Algorithm, FedAvg, FedProx
from .unsupported import Unsupported


@dataclass(frozen=True)
class LocalRule:
    """What a cohort is made for, and the learning rate of one message."""

    algorithm: str | Algorithm
    weight_decay: float
    lr: float


def local_rule(optimizer: object, lr: float | None, mu: float) -> LocalRule:
    """The rule of a declared optimizer with this learning rate (None: its own) and proximal mu.

    Raises Unsupported for optimizers that a cohort has no rule for.
    """
    if isinstance(optimizer, (str, Algorithm)):
        if mu:
            raise Unsupported(f"a proximal term under {optimizer!r}: name FedProx(mu) instead")
        if lr is None:
            raise Unsupported(f"no learning rate for {optimizer!r}: Training(lr=...)")
        return LocalRule(optimizer, 0.0, lr)
    if not callable(optimizer):
        raise Unsupported(f"optimizer {optimizer!r}: expected a class of torch.optim")
    made = _made(optimizer, lr)
    if len(made.param_groups) != 1:
        raise Unsupported("an optimizer with groups of parameters")
    group = made.param_groups[0]
    local = _local(made, group)
    algorithm = FedProx(local=local, mu=mu) if mu else FedAvg(local=local)
    return LocalRule(algorithm, float(group["weight_decay"]), float(group["lr"]))


def _made(optimizer: Callable[..., object], lr: float | None) -> Optimizer:
    own = [nn.Parameter(torch.zeros(1))]
    made = optimizer(own) if lr is None else optimizer(own, lr=lr)
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
