"""What each of K models is trained with: learning rate, weight decay, radius of SAM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._messages import format_value

PerModel = float | Sequence[float] | Tensor
NAMES = "lr", "weight_decay", "rho"


def per_model(name: str, value: object, count: int) -> Tensor:
    """float64 [K] of a number or K of them, none negative; TypeError/ValueError naming it."""
    try:
        if isinstance(value, bool):
            raise TypeError
        found = torch.as_tensor(value, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name}: expected a number or K = {count} numbers; got {format_value(value)}"
        ) from error
    if found.ndim > 1 or (found.ndim == 1 and len(found) != count):
        raise ValueError(f"{name}: expected a number or [{count}]; got {list(found.shape)}")
    if not bool((found.isfinite() & (found >= 0)).all()):
        raise ValueError(f"{name}: expected finite numbers >= 0; got {format_value(value)}")
    return found.expand(count).clone()


class Rates:
    """The numbers of K models, and in the rows' dtype what operations make of them.

    lr, weight_decay, rho  [K] float64; may be changed in place at any time
    descent   -lr, decayed: 1 - lr weight_decay, decay: weight_decay, eta: lr, radius: rho. All [K]
    t         which step it is, from 1. [K]
    decays    whether any weight decay is not 0
    Operations recorded in a plan read these tensors anew in every run: they never move.
    """

    def __init__(self, count: int, lr: PerModel, weight_decay: PerModel, rho: PerModel) -> None:
        given = zip(NAMES, (lr, weight_decay, rho), strict=True)
        self._all = torch.stack([per_model(name, value, count) for name, value in given])
        self.lr, self.weight_decay, self.rho = self._all
        self._seen = torch.full_like(self._all, torch.nan)

    def hold(self, dtype: torch.dtype, device: torch.device) -> None:
        """Make the tensors that operations read."""
        self.descent, self.decayed, self.decay, self.eta, self.radius, self.t = (
            torch.empty(len(self.lr), dtype=dtype, device=device) for _ in range(6)
        )

    def refresh(self, t: int) -> None:
        """Take over what has changed since, for step t; ValueError naming what may not be."""
        self.t.fill_(t + 1)
        if torch.equal(self._all, self._seen):  # values: NumPy's views of them count nothing
            return
        for name in NAMES:
            per_model(name, getattr(self, name), len(self.lr))
        self.descent.copy_(-self.lr)
        self.decayed.copy_(1 - self.lr * self.weight_decay)
        self.decay.copy_(self.weight_decay)
        self.eta.copy_(self.lr)
        self.radius.copy_(self.rho)
        self.decays = bool(self.weight_decay.any())
        self._seen.copy_(self._all)
