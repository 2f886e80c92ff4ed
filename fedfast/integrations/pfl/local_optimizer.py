"""The local optimizer of a model: plain SGD can be trained in a cohort, others cannot."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pfl.model.pytorch import PyTorchModel

from .reasons import NotBatched

UNLIKE = "momentum", "dampening", "nesterov", "maximize"  # what makes SGD more than -lr * g


@dataclass(frozen=True)
class PlainSGD:
    """`w <- w - lr (g + weight_decay w)`."""

    lr: float
    weight_decay: float


def plain_sgd(model: PyTorchModel, lr: float) -> PlainSGD:
    """What `local_optimizer_create` makes for this learning rate.

    Raises NotBatched unless it is torch's SGD with one rate and neither momentum nor its like.
    """
    optimizer = model.new_local_optimizer(learning_rate=lr)
    if type(optimizer) is not torch.optim.SGD:
        raise NotBatched(f"the local optimizer is {type(optimizer).__name__}, not torch.optim.SGD")
    for group in optimizer.param_groups:
        extra = [name for name in UNLIKE if group[name]]
        if extra:
            raise NotBatched(f"the local optimizer is SGD with {' and '.join(extra)}")
    options = {(float(g["lr"]), float(g["weight_decay"])) for g in optimizer.param_groups}
    if len(options) > 1:
        raise NotBatched("the local optimizer has several learning rates or weight decays")
    return PlainSGD(*options.pop())
