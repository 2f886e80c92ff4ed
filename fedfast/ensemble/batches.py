"""Batches as users give them: [K, B, ...], or [B, ...] that all models share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .._messages import format_value
from ..batches import Minibatch


def as_tensor(name: str, value: object) -> Tensor:
    """A tensor of a tensor or array; TypeError naming it otherwise."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor; got {format_value(value)}")
    return value.detach()


@dataclass(frozen=True)
class Form:
    """What samples are like.

    sample  the shape of one, as in the first batch; labels: whether targets are class labels
    """

    sample: tuple[int, ...]
    labels: bool
    count: int  # K

    def shared(self, x: Tensor) -> bool:
        """Whether all models share x; ValueError where it fits neither form."""
        dims = len(self.sample)
        if x.shape[x.ndim - dims :] == self.sample:
            if x.ndim == dims + 1:
                return True
            if x.ndim == dims + 2 and len(x) == self.count:
                return False
        raise ValueError(
            f"x: expected [B, ...] or [K, B, ...] with K = {self.count} and samples of shape "
            f"{list(self.sample)}, as in the first batch; got {list(x.shape)}"
        )

    def check(self, x: Tensor, y: Tensor) -> bool:
        """Whether all models share the batch (x, y); ValueError where they do not fit together."""
        shared = self.shared(x)
        lead = x.shape[:1] if shared else x.shape[:2]
        if self.labels and y.is_floating_point():
            raise ValueError(f"y: expected class labels, integers; got {y.dtype}")
        fits = y.shape == lead if self.labels else y.shape[: len(lead)] == lead
        if not fits:
            raise ValueError(
                f"y: expected {[*lead]}{'' if self.labels else ' and more'}, as x has "
                f"{list(x.shape)}; got {list(y.shape)}"
            )
        if lead[-1] == 0:
            raise ValueError("x: expected at least one sample; got none")
        return shared


def first_shared(x: Tensor, y: Tensor, count: int) -> bool:
    """Whether all models share the first batch, when it is not known yet what a sample is."""
    return y.ndim == 1 or x.shape[:2] != y.shape[:2] or len(x) != count


class BatchBuffers:
    """Where the batches of one width lie while steps read them: plans know the addresses.

    K models' samples are [K, B, ...]; what they share is held once, with row stride 0.
    """

    def __init__(self, count: int, x: Tensor, y: Tensor, spread: bool) -> None:
        """x, y  [B, ...]: samples and targets of one model, in the dtype and on the device of runs
        spread  whether each model gets a copy of what they share
        """
        self._like, self._spread = x, spread
        self._y = y.new_empty(count, *y.shape)
        self._count = torch.full((count,), len(x), dtype=torch.int32, device=x.device)
        self._held: dict[bool, tuple[Tensor, Minibatch]] = {}

    def filled(self, x: Tensor, y: Tensor, shared: bool, seeds: Tensor | None) -> Minibatch:
        """The batch in these buffers, until the next one."""
        once = shared and not self._spread
        if once not in self._held:
            self._held[once] = self._made(1 if once else len(self._y))
        held, batch = self._held[once]
        held.copy_(x)
        self._y.copy_(y)
        return batch if seeds is None else replace(batch, seeds=seeds)

    def _made(self, copies: int) -> tuple[Tensor, Minibatch]:
        held = self._like.new_empty(copies, *self._like.shape)
        x = held.expand(len(self._y), *self._like.shape)
        return held, Minibatch(x, self._y, self._count)
