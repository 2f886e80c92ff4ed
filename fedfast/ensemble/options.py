"""The options of an `Ensemble`, checked."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .. import losses, named_losses, precisions
from .._messages import format_value
from ..algorithms import ASAM, SAM, SGD, Optimizer
from ..kernels import registry
from ..losses import Loss
from ..metrics.accuracy import Metric
from ..validation import run as run_checks
from ..validation.values import Count, OneOf, boolean
from .adam import Adam

NAMES: dict[str, Optimizer | Adam] = {
    "sgd": SGD(),
    "sam": SAM(),
    "asam": ASAM(),
    "adam": Adam(),
    "adamw": Adam(decoupled=True),
}


@dataclass(frozen=True)
class Options:
    """Of K models; see `Ensemble`. Raises TypeError/ValueError naming the option that is wrong.

    precision  that is in force for float32 products
    """

    count: int
    optimizer: Optimizer | Adam
    loss: str | Loss
    metric: str | Metric
    dtype: torch.dtype
    device: torch.device
    backend: str
    precision: str
    verify: bool

    @classmethod
    def of(
        cls,
        count: int,
        optimizer: Optimizer | Adam | str,
        loss: str | Loss,
        metric: str | Metric,
        dtype: torch.dtype,
        device: str | torch.device,
        backend: str,
        precision: str,
        verify: bool,
    ) -> Options:
        """Checked."""
        Count()("K", count)
        boolean("verify", verify)
        OneOf(precisions.CHOICES)("precision", precision)
        OneOf(registry.BACKENDS)("backend", backend)
        loss = named_losses.loss(loss)
        if loss != "cross_entropy":
            losses.check(loss)
        where, kind = run_checks.device(device), run_checks.dtype(dtype)
        registry.choose(backend, torch.empty(0, dtype=kind, device=where))
        made, rounded = _optimizer(optimizer), precisions.chosen(precision, where)
        return cls(count, made, loss, metric, kind, where, backend, rounded, verify)


def _optimizer(given: Optimizer | Adam | str) -> Optimizer | Adam:
    if isinstance(given, str):
        OneOf(tuple(NAMES))("optimizer", given)
        return NAMES[given]
    if type(given) not in {type(made) for made in NAMES.values()}:
        names = ", ".join(dict.fromkeys(type(made).__name__ for made in NAMES.values()))
        raise TypeError(f"optimizer: expected a name or one of {names}; got {format_value(given)}")
    rho = getattr(given, "rho", 0.0)
    if not isinstance(rho, (int, float)):
        raise ValueError(
            "optimizer: expected a radius rho that is a number, since an ensemble has no rounds; "
            f"got {format_value(rho)}. Set ensemble.rho between steps"
        )
    return given
