"""Checks of the model, the loss and the metric, which are tried on some of the data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses
from ..algorithms import Algorithm
from ..constants import cast
from ..copies import copy_of, refuse_hooks
from ..data import FederatedData, Samples
from ..data.client_parts import ClientParts
from ..losses import Loss, Tried
from ..metrics.accuracy import Metric, metric_for
from ..metrics.loss_weights import ignored
from ..model_inspection import Traits, inspect_model, refused

TRIED = 16  # samples a callable loss is tried on


def model(
    value: nn.Module, data: FederatedData, device: torch.device, dtype: torch.dtype
) -> tuple[nn.Module, Traits]:
    """(a copy on the device, what a trial step found out about it)."""
    if not isinstance(value, nn.Module):
        raise TypeError(f"model: expected an nn.Module; got {type(value).__name__}")
    for name, m in value.named_modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.momentum is None:
            raise ValueError(
                f"model: {name} averages over all batches ever seen (momentum=None), which has no "
                "meaning across clients; give it a momentum"
            )
    if not any(p.requires_grad for p in value.parameters()):
        raise ValueError("model: it has no parameter to train")
    refuse_hooks(value)
    sample = data.order[:2]
    traits = inspect_model(value, data.samples.take(sample).inputs(dtype))
    return cast(copy_of(value), device, dtype), traits


def loss(value: str | Loss, device: torch.device, dtype: torch.dtype) -> Loss:
    """(outputs, targets) -> scalar; a copy on the device where it holds tensors."""
    if isinstance(value, str):  # the one name that options leave a name
        return F.cross_entropy
    losses.check(value)
    return losses.ready(value, device, dtype)


def tried(
    value: str | Loss, loss_fn: Loss, model: nn.Module, data: FederatedData, dtype: torch.dtype
) -> tuple[Tried, Tensor]:
    """(the loss on outputs of the model for some of the data, their targets), all labels checked.

    value    as the user gave it; `loss_fn` as the run takes it
    """
    at = torch.linspace(0, len(data.order) - 1, TRIED, dtype=torch.float64).long().unique()
    part = data.samples.take(data.order[at.to(data.order.device)])
    x = part.inputs(dtype)
    with refused(x, " in evaluation mode"), torch.no_grad(), torch.random.fork_rng():
        outputs = copy_of(model).eval()(x)
    if not isinstance(outputs, Tensor) or outputs.ndim == 0 or len(outputs) != len(x):
        came = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"model: expected outputs [{len(x)}, ...] in evaluation mode; got {came}")
    if value == "cross_entropy":
        _classifies(outputs, data.y)
    found = Tried(loss_fn, outputs, False)
    found.check_labels("clients", data.y)
    _check_tests(found, data.test or [])
    kept = part.y != ignored(loss_fn) if part.y.ndim == 1 else slice(None)
    y, outputs = part.y[kept], outputs[kept]
    # Outputs that are not finite have no finite loss: the run reports that they diverged.
    if value != "cross_entropy" and len(y) and bool(outputs.isfinite().all()):
        found = losses.tried(loss_fn, outputs, y)
    return found, y


def _check_tests(found: Tried, parts: Sequence[Samples]) -> None:
    """ValueError naming the client whose test part has a label that the model has no output for."""
    if isinstance(parts, ClientParts):  # all at once, for there may be millions
        with suppress(ValueError):
            return found.check_labels("clients.test", parts.samples.y)
    for i, own in enumerate(parts):
        found.check_labels(f"clients.test[{i}]", own.y)


def _classifies(outputs: Tensor, y: Tensor) -> None:
    if outputs.ndim != 2:
        raise ValueError(
            f"model: expected logits [{len(outputs)}, classes]; got {list(outputs.shape)}"
        )
    if y.ndim != 1:
        raise ValueError(
            f"clients: expected class labels [n] for the loss 'cross_entropy'; got targets "
            f"{list(y.shape)} {y.dtype}: give a callable loss"
        )


def by_class(algorithm: Algorithm, outputs: Tensor, y: Tensor) -> None:
    """Refuse an algorithm that keeps something per class where targets are no classes.

    outputs  [k, ...] of the model, y [n, ...] all targets
    """
    if not algorithm.local.by_class:
        return
    width = outputs.shape[1] if outputs.ndim == 2 else 0
    if y.ndim != 1 or int(y.max()) >= width:
        raise ValueError(
            f"algorithm: {algorithm.name!r} keeps a distribution per class: expected one output "
            f"per class and class labels [n]; got outputs {['n', *outputs.shape[1:]]} and targets "
            f"{['n', *y.shape[1:]]}"
        )


def metric(value: str | Metric, found: Tried, data: FederatedData, y: Tensor) -> Metric:
    """How right predictions are; see `fedfast.metrics`."""
    with torch.no_grad(), torch.random.fork_rng():
        made = metric_for(value, found.loss, found.outputs, data.y)
        if len(found.outputs) == len(y):
            made(found.outputs.clone(), y.clone())
    return made
