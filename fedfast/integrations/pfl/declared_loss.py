"""The loss (outputs, targets) behind a module's own `loss(inputs, targets)`.

pfl's convention is that `module.loss` calls the module itself. Given outputs in place of that
forward pass it is a function of outputs and targets, which a cohort can train with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from threading import local

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .reasons import NotBatched

SPREAD, CLOSE = 3.0, 1e-5
ROWS = 512  # labels tried at most
READING = {"item", "tolist", "numpy", "equal", "allclose", "__bool__", "__int__", "__float__"}


class Inputs(Tensor):
    """Inputs that leave a trace: whatever is computed from them is of this class again."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """As torch's. Raises NotBatched where a number is read out of them."""
        if func.__name__ in READING:
            raise NotBatched("it reads the inputs")
        return super().__torch_function__(func, types, args, kwargs or {})


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
        # In place of inputs, of which it reads nothing: as many rows.
        return self.given(outputs.detach(), outputs, targets)

    def given(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """The method's result for inputs whose forward pass has these outputs."""
        self._thread.outputs = outputs
        loss: Callable[..., Tensor] = self._module.loss  # type: ignore[assignment]
        return loss(inputs, targets.reshape(-1, *self._tail), **self._kwargs)


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
        if isinstance(loss.given(x[:8].as_subclass(Inputs), outputs, y[:8]), Inputs):
            raise NotBatched("it reads the inputs")
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
    """Whether value and gradient are cross-entropy's for outputs of some size.

    With the labels that there are, and with every class: weights of classes, an ignored class or a
    sum may not show in one user's few samples.
    """
    if outputs.ndim != 2 or y.numel() != len(y):
        return False
    classes = outputs.shape[1]
    every = torch.linspace(0, classes - 1, min(classes, ROWS), device=y.device).round().to(y.dtype)
    try:
        return all(_agrees(loss, outputs, labels) for labels in (y, torch.cat([every, every[:1]])))
    except Exception:  # labels that the method does not take
        return False


def _agrees(loss: DeclaredLoss, outputs: Tensor, y: Tensor) -> bool:
    draw = torch.Generator(outputs.device).manual_seed(0)
    z = outputs.new_empty(len(y), outputs.shape[1]).normal_(0.0, SPREAD, generator=draw)
    own, expected = loss(z.requires_grad_(), y), F.cross_entropy(z, class_labels(y))
    pairs = zip(_with_gradient(own, z), _with_gradient(expected, z), strict=True)
    return all(torch.allclose(a, b, CLOSE, CLOSE) for a, b in pairs)


def _with_gradient(value: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    return value.detach(), torch.autograd.grad(value, z)[0]
