"""A program's dropout masks in a module's own forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .. import kernels

SEED = 1
DROPOUTS = (F.dropout, F.dropout2d)


class Masks(TorchFunctionMode):
    """Dropout by the masks of a program whose client has the seed SEED, in the order of calls."""

    layer = 0
    autocast = False

    def __torch_function__(
        self, func: Callable[..., object], types: object, args: Any = (), kwargs: Any = None
    ) -> object:
        """Replaces the functions of DROPOUTS."""
        kwargs = kwargs or {}
        self.autocast |= torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
        if func not in DROPOUTS:
            return func(*args, **kwargs)
        return self._drop(func is F.dropout2d, *args, **kwargs)

    def _drop(
        self,
        planes: bool,
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        if not training or not p:
            return input
        span = input.shape[2:].numel() if planes and input.ndim == 4 else 1
        seeds = torch.full((1,), SEED, dtype=torch.int64, device=input.device)
        ones = torch.ones(1, *input.shape, dtype=input.dtype, device=input.device)
        mask = kernels.dropout(ones, p, seeds, self.layer, span=span)[0]
        self.layer += 1
        return input.mul_(mask) if inplace else input * mask
