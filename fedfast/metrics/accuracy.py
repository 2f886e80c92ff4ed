"""Accuracy that fits the task: which share of predictions is right, or that there is none.

    "multiclass"  logits [n, C >= 2]: argmax against the class (or the argmax of one-hot targets)
    "binary"      logits [n] or [n, 1]: above the threshold against target 1; targets 0/1 or -1/1
    "multilabel"  logits [n, C], targets [n, C]: the share of a sample's C labels that are right
                  (elementwise accuracy, 1 - Hamming loss; not subset accuracy)
    "none"        no accuracy: nan

The threshold is 0 on logits and 0.5 on probabilities. `BCELoss` takes probabilities, and any
other callable for which l(0.5, 1) = l(0.5, 0): true of a loss on probabilities, not on logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._messages import format_value
from ..registry import Registry

Loss = Callable[[Tensor, Tensor], Tensor]
Metric = Callable[[Tensor, Tensor], Tensor]
METRICS = Registry[Metric](
    "metric", "a function (outputs, targets) -> [n] how right each sample is", callable
)

CLASSES: tuple[object, ...] = (
    nn.CrossEntropyLoss,
    nn.NLLLoss,
    nn.MultiMarginLoss,
    F.cross_entropy,
    F.nll_loss,
    F.multi_margin_loss,
)
_LOGITS: tuple[object, ...] = (
    nn.BCEWithLogitsLoss,
    nn.MultiLabelSoftMarginLoss,
    nn.SoftMarginLoss,
    F.binary_cross_entropy_with_logits,
    F.multilabel_soft_margin_loss,
    F.soft_margin_loss,
)
_PROBABILITIES: tuple[object, ...] = (nn.BCELoss, F.binary_cross_entropy)
_NUMBERS: tuple[object, ...] = (
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.PoissonNLLLoss,
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.poisson_nll_loss,
)
# Targets of these are no labels: lists of classes that end with -1.
_LISTS: tuple[object, ...] = (nn.MultiLabelMarginLoss, F.multilabel_margin_loss)
SIGNS = (nn.SoftMarginLoss, F.soft_margin_loss)
SHARES = (nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits, *_PROBABILITIES)
ELEMENTWISE = (*_LOGITS, *_PROBABILITIES, *_NUMBERS)


def known(loss: object, kinds: tuple[object, ...]) -> bool:
    """Whether `loss` is one of torch's functions or modules in `kinds`, perhaps in a partial."""
    while isinstance(loss, partial):
        loss = loss.func
    types = tuple(kind for kind in kinds if isinstance(kind, type))
    return isinstance(loss, types) or any(loss is kind for kind in kinds)


@dataclass(frozen=True)
class Correct:
    """How right each sample's prediction is: bool [n], or float64 [n] shares for "multilabel"."""

    kind: str
    threshold: float = 0.0

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.kind == "multiclass":
            return logits.argmax(dim=1) == (y.argmax(dim=1) if y.ndim == 2 else y)
        right = (logits > self.threshold).flatten(1 if logits.ndim > 1 else 0) == (
            (y > 0.5).reshape(logits.shape)
        )
        if self.kind == "binary":
            return right.reshape(len(y))
        return right.double().mean(dim=1)


@dataclass(frozen=True)
class Custom:
    """A user's metric (logits, targets) -> [n] with numbers in [0, 1]."""

    function: Metric

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        try:
            found = self.function(logits, y)
        except (TypeError, ValueError) as error:
            raise type(error)(f"metric: expected a callable (outputs, targets); {error}") from error
        if not isinstance(found, Tensor) or found.shape != (len(y),):
            got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"metric: expected how right each sample is, a tensor [{len(y)}]; got {got}"
            )
        return found if found.dtype == torch.bool else found.to(torch.float64, copy=True)


MULTICLASS = Correct("multiclass")
for _name in ("auto", "multiclass", "binary", "multilabel", "none"):
    METRICS.register(_name)(Correct(_name))


def no_accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """nan for every sample."""
    return torch.full((len(y),), torch.nan, dtype=torch.float64, device=logits.device)


def find(name: str) -> Metric:
    """The metric of this name, or a class of such, which is made without arguments.

    Raises ValueError for an unknown name, TypeError for a class that needs arguments.
    """
    found = METRICS.find(name)
    if isinstance(found, type):
        try:
            signature(found).bind()
        except TypeError as error:
            got = f"{format_value(found)} ({error})"
            raise TypeError(
                f"metric: expected a class that is made without arguments; got {got}"
            ) from None
    return found


def metric_for(metric: str | Metric, loss: Loss, logits: Tensor, y: Tensor) -> Metric:
    """The metric, given outputs like `logits` [k, ...] and all targets y [n, ...].

    metric  one of `METRICS`, "package.module:function", or a callable
    Raises ValueError naming `metric` where outputs and targets have no such accuracy.
    """
    if not (callable(metric) or isinstance(metric, str)):
        raise TypeError(
            "metric: expected a name or a callable (outputs, targets) -> [n]; got "
            f"{format_value(metric)}"
        )
    found = metric if callable(metric) else find(metric)
    if isinstance(found, type) and not callable(metric):
        found = found()
    if not isinstance(found, Correct):
        return Custom(found)
    kind = _kind(loss, logits, y) if found.kind == "auto" else found.kind
    if kind == "none":
        return no_accuracy
    if kind not in _fitting(logits, y):
        raise ValueError(
            f"metric: {kind!r} does not fit outputs [n{_shape(logits)}] and targets [n{_shape(y)}]"
        )
    return Correct(kind, 0.0 if kind == "multiclass" else _threshold(loss, logits))


def _shape(t: Tensor) -> str:
    return "".join(f", {size}" for size in t.shape[1:])


def _fitting(logits: Tensor, y: Tensor) -> tuple[str, ...]:
    """The accuracies that outputs and targets of these shapes can have."""
    one = logits[0].numel() == 1 and y[0].numel() == 1
    many = logits.ndim == 2 and logits.shape[1] > 1
    same = many and y.ndim == 2 and y.shape[1] == logits.shape[1]
    classes = many and (same or (y.ndim == 1 and not y.is_floating_point()))
    fits = {"binary": one, "multiclass": classes, "multilabel": same}
    return tuple(kind for kind, holds in fits.items() if holds)


def _kind(loss: object, logits: Tensor, y: Tensor) -> str:
    fits = _fitting(logits, y)
    if not fits or known(loss, (*_NUMBERS, *_LISTS)):
        return "none"
    if known(loss, CLASSES):
        return "multiclass" if "multiclass" in fits else "none"
    if "binary" in fits:
        return "binary" if _only(y, 0, 1) or _only(y, -1, 1) else "none"
    if "multilabel" not in fits:
        return "multiclass"
    if not known(loss, (*_LOGITS, *_PROBABILITIES)) and _one_hot(y):
        return "multiclass"
    return "multilabel" if _only(y, 0, 1) or _only(y, -1, 1) else "none"


def _only(y: Tensor, low: float, high: float) -> bool:
    return bool(((y == low) | (y == high)).all())


def _one_hot(y: Tensor) -> bool:
    return _only(y, 0, 1) and bool((y.sum(dim=1) == 1).all())


def _threshold(loss: Loss, logits: Tensor) -> float:
    if known(loss, (*_LOGITS, *_PROBABILITIES)):
        return 0.5 if known(loss, _PROBABILITIES) else 0.0
    return 0.5 if _even_at_half(loss, logits) else 0.0


def _even_at_half(loss: Loss, logits: Tensor) -> bool:
    """Whether an output of 0.5 is as wrong for target 0 as for target 1."""
    half = torch.full_like(logits, 0.5)
    for shape in (half.shape, half.shape[:1]):
        for dtype in (logits.dtype, torch.int64):
            y = torch.zeros(shape, dtype=dtype, device=half.device)
            try:
                low, high = float(loss(half, y)), float(loss(half, y + 1))
            except Exception:  # the loss takes targets of another shape or type
                continue
            return abs(low - high) <= 1e-5 * abs(high)
    return False
