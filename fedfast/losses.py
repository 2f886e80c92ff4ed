"""Callable losses: made ready for a run, tried on its own data before round 1.

A loss is (outputs, targets) -> scalar mean over the batch. `ready` puts its tensors on the run's
device and dtype, in a copy; `tried` calls it on a few samples and raises where it is unfit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ._messages import format_value
from .metrics.accuracy import CLASSES, ELEMENTWISE, SHARES, SIGNS, Loss, known
from .metrics.loss_weights import ignored

EXPECTED = "expected (outputs, targets) -> a scalar tensor, the mean over the batch"


class Elementwise(partial):
    """A loss of torch that compares element by element, given targets in the outputs' form.

    Without it targets [n] beside outputs [n, 1] are broadcast to [n, n] (`MSELoss`), or refused.
    """

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        y = y.to(logits.dtype)
        alike = y.numel() == logits.numel()
        return super().__call__(logits, y.reshape(logits.shape) if alike else y)


def ready(loss: Loss, device: torch.device, dtype: torch.dtype) -> Loss:
    """The loss with its tensors on `device` as `dtype`; the user's object stays as it is."""
    moved = _moved_loss(loss, device, dtype)
    return Elementwise(moved) if known(moved, ELEMENTWISE) else moved


def _moved_loss(
    loss: Callable[..., Tensor], device: torch.device, dtype: torch.dtype
) -> Callable[..., Tensor]:
    moved = _moved(loss, device, dtype)
    assert callable(moved)
    return moved


def _moved(value: object, device: torch.device, dtype: torch.dtype) -> object:
    if isinstance(value, nn.Module):
        return deepcopy(value).to(device=device, dtype=dtype)
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    if type(value) is partial:
        args = [_moved(a, device, dtype) for a in value.args]
        named = {name: _moved(a, device, dtype) for name, a in value.keywords.items()}
        return partial(_moved_loss(value.func, device, dtype), *args, **named)
    return value


def check(value: object) -> None:
    """TypeError/ValueError where a loss is of no use whatever the data."""
    if isinstance(value, type):
        raise TypeError(
            f"loss: {EXPECTED}; got the class {value.__name__}: give {value.__name__}()"
        )
    if not callable(value):
        raise TypeError(f"loss: expected 'cross_entropy' or a callable; got {format_value(value)}")
    module = value if isinstance(value, nn.Module) else nn.Module()
    own = [n for n, p in module.named_parameters() if p.requires_grad]
    if own:
        raise ValueError(
            f"loss: expected nothing to train in it; got parameters {', '.join(own)}: "
            "make them part of the model, or requires_grad_(False)"
        )
    inner: object = value
    while isinstance(inner, partial):
        if "reduction" in inner.keywords:
            _reduction(inner.keywords["reduction"])
        inner = inner.func
    if known(inner, (*CLASSES, *ELEMENTWISE)) and hasattr(inner, "reduction"):
        _reduction(inner.reduction)


def _reduction(value: str) -> None:
    if value not in ("mean", "batchmean"):
        raise ValueError(f"loss: {EXPECTED}; got one with reduction={value!r}: use 'mean'")


@dataclass(frozen=True)
class Tried:
    """A loss that holds on the run's data.

    outputs  [k, ...] of the model, for samples of the data
    random   whether the loss draws random numbers
    """

    loss: Loss
    outputs: Tensor
    random: bool

    def check_labels(self, name: str, y: Tensor) -> None:
        """ValueError naming `name` where targets [n, ...] are not ones the loss can take."""
        if len(y) and known(self.loss, SHARES) and not (y.min() >= 0 and y.max() <= 1):
            raise ValueError(
                f"{name}: expected targets from 0 to 1 for this loss; "
                f"got {y.min().item()} to {y.max().item()}"
            )
        if known(self.loss, SIGNS) and not bool((y.abs() == 1).all()):
            raise ValueError(
                f"{name}: expected targets -1 and 1 for this loss; a target of 0 has no gradient. "
                "Perhaps lambda z, y: loss(z, 2 * y - 1)"
            )
        if len(y) == 0 or y.ndim != 1:
            return
        lowest, highest = int(y.min()), int(_counted(self.loss, y).max())
        width = self.outputs.shape[1] if self.outputs.ndim > 1 else 1
        if highest < width:
            return
        ends = torch.stack([y.min(), y.max()])
        if known(self.loss, CLASSES) or self._refuses(ends):
            hint = "; labels count from 0, these seem to count from 1"
            raise ValueError(
                f"{name}: label {highest} is out of range for a model with {width} outputs"
                f"{hint if lowest == 1 and highest == width else ''}"
            )

    def _refuses(self, y: Tensor) -> bool:
        """Whether targets make the loss raise; on the CPU, for a CUDA assertion ends the process's
        use of the GPU."""
        outputs = self.outputs[:1].expand(len(y), *self.outputs.shape[1:]).cpu()
        loss = _moved_loss(self.loss, torch.device("cpu"), outputs.dtype)
        fails = _fails(loss, outputs, y.cpu())
        return fails and not _fails(loss, outputs, torch.zeros_like(y).cpu())


def _fails(loss: Loss, outputs: Tensor, y: Tensor) -> bool:
    try:
        with torch.random.fork_rng(devices=()):
            loss(outputs.clone(), y.clone())
    except Exception:  # whatever a user's function raises
        return True
    return False


def _counted(loss: Loss, y: Tensor) -> Tensor:
    """The labels [n] of which an `ignore_index` does not make nothing; all where it does of all."""
    kept = y[y != ignored(loss)]
    return kept if len(kept) else torch.zeros_like(y[:1])


def tried(loss: Loss, outputs: Tensor, y: Tensor) -> Tried:
    """Call the loss on outputs [k, ...] and targets [k, ...] of the run.

    Raises ValueError naming `loss`: it fails on them; returns no tensor, no scalar, something not
    finite or that does not depend on the outputs; changes what it is given; sums over the batch.
    """
    before = torch.get_rng_state()
    with torch.random.fork_rng(devices=_devices(outputs)), torch.enable_grad():
        z = outputs.clone().requires_grad_()
        value, given = _call(loss, z, y)
        _check_inputs(given, outputs, y)
        _check_value(value, z)
        random = not torch.equal(before, torch.get_rng_state())
        twice, _ = _call(loss, torch.cat([outputs, outputs]), torch.cat([y, y]))
    one, two = float(value.detach()), float(twice.detach())
    if not random and abs(one) > 1e-6 and abs(two - 2 * one) <= 1e-4 * abs(one):
        raise ValueError(
            f"loss: {EXPECTED}; got a sum: {one:.4g} for {len(y)} samples, {two:.4g} for the same "
            "ones twice. Divide it by the batch's size, or use reduction='mean'"
        )
    return Tried(loss, outputs, random)


def _devices(t: Tensor) -> list[torch.device]:
    return [t.device] if t.device.type == "cuda" else []


def _call(loss: Loss, z: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    given = z * 1, y.clone()  # no leaf: a loss may not change one, whatever it does with others
    shapes = f"outputs {list(z.shape)} {z.dtype} and targets {list(y.shape)} {y.dtype}"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Using a target size")
            return loss(*given), given
    except Exception as error:
        if "Using a target size" in str(error):
            why = "they are of different shapes, and would be broadcast"
            raise ValueError(f"loss: {why}: {shapes}.{_remedy(z, y, why)}") from error
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"loss: it cannot take {shapes} ({why}).{_remedy(z, y, why)}") from error


def _remedy(z: Tensor, y: Tensor, why: str) -> str:
    if y.ndim == 1 and z.ndim == 2:
        whole, width = not y.is_floating_point(), z.shape[1]
        if whole and width > 1 and int(y.max()) >= width:
            one = "; do they count from 1?" if int(y.min()) >= 1 else ""
            return f" Labels must be below the number of outputs, {width}; got {int(y.max())}{one}"
        if width == 1:
            return " Perhaps lambda z, y: loss(z[:, 0], y.to(z.dtype))"
    kinds = "Long" in why or "floating point" in why
    return " Perhaps lambda z, y: loss(z, y.to(z.dtype))" if kinds else ""


def _check_value(value: object, z: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"loss: {EXPECTED}; got {type(value).__name__}")
    if value.ndim != 0:
        raise ValueError(
            f"loss: {EXPECTED}; got a tensor {list(value.shape)}: take its mean (reduction='mean')"
        )
    if not value.is_floating_point() or not bool(value.isfinite()):
        raise ValueError(
            f"loss: {EXPECTED}; got {value.item()} ({value.dtype}) for the first samples"
        )
    found = None
    if value.requires_grad:
        (found,) = torch.autograd.grad(value, z, allow_unused=True)
    if found is None:
        raise ValueError(
            f"loss: {EXPECTED}, differentiable; got one without a gradient for the outputs "
            "(detached, computed under no_grad, or not of them)"
        )
    if not bool(found.isfinite().all()):
        raise ValueError("loss: expected a finite gradient for the outputs; got NaN or infinity")


def _check_inputs(given: tuple[Tensor, Tensor], outputs: Tensor, y: Tensor) -> None:
    for name, now, was in (("outputs", given[0], outputs), ("targets", given[1], y)):
        if not torch.equal(now.detach(), was):
            raise ValueError(f"loss: expected its {name} left alone; it changes them in place")
