"""The loss (outputs, targets) behind a module's own `loss(inputs, targets)`.

pfl's convention is that `module.loss` calls the module itself. Given outputs in place of that
forward pass it is a function of outputs and targets, which a cohort can train with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from threading import local

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .reasons import NotBatched

TRIES, SPREAD, CLOSE = 2, 3.0, 1e-5


class DeclaredLoss:
    """`module.loss` on a copy of the module whose forward pass returns outputs that are given.

    kwargs  what pfl passes besides the batch (`train_kwargs`)
    tail    shape of one sample's targets, as the module expects them
    """

    def __init__(
        self, module: nn.Module, kwargs: Mapping[str, object], tail: tuple[int, ...]
    ) -> None:
        self._module, self._kwargs, self._tail = deepcopy(module), dict(kwargs), tail
        self._thread = local()  # clients may train in threads
        self._module.forward = lambda *_, **__: self._thread.outputs

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch: outputs `[B, ...]`, targets `[B, ...]`."""
        self._thread.outputs = outputs
        loss: Callable[..., Tensor] = self._module.loss  # type: ignore[assignment]
        # In place of inputs: as many rows. A loss that reads more of them fails the comparison.
        return loss(outputs.detach(), targets.reshape(-1, *self._tail), **self._kwargs)


def declared_loss(
    module: nn.Module, x: Tensor, y: Tensor, kwargs: Mapping[str, object]
) -> tuple[DeclaredLoss, bool]:
    """(the loss, whether it is the mean cross-entropy of class labels) for some samples.

    Raises NotBatched where it cannot be called with outputs in place of a forward pass.
    """
    modes = [m.training for m in module.modules()]
    try:
        with torch.no_grad():
            outputs = module.eval()(x[:8])
        loss = DeclaredLoss(module, kwargs, tuple(y.shape[1:]))
        return loss, _is_cross_entropy(loss, outputs, y[:8])
    except Exception as error:  # whatever a user's method raises
        raise NotBatched(
            f"loss is no function of the module's outputs and the targets ({error})"
        ) from error
    finally:
        for m, mode in zip(module.modules(), modes, strict=True):
            m.training = mode


def class_labels(y: Tensor) -> Tensor:
    """Labels `[n]` int64 of targets `[n]` or `[n, 1]`, floats too (pfl's own data has those)."""
    return y.reshape(len(y)).long()


def _is_cross_entropy(loss: DeclaredLoss, outputs: Tensor, y: Tensor) -> bool:
    """Whether value and gradient are cross-entropy's for outputs of some size."""
    if outputs.ndim != 2 or y.numel() != len(y):
        loss(outputs, y)
        return False
    draw, alike = torch.Generator(outputs.device).manual_seed(0), True
    for _ in range(TRIES):
        z = torch.empty_like(outputs).normal_(0.0, SPREAD, generator=draw).requires_grad_()
        own, expected = loss(z, y), F.cross_entropy(z, class_labels(y))
        pairs = zip(_with_gradient(own, z), _with_gradient(expected, z), strict=True)
        alike = alike and all(torch.allclose(a, b, CLOSE, CLOSE) for a, b in pairs)
    return alike


def _with_gradient(value: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    return value.detach(), torch.autograd.grad(value, z)[0]
