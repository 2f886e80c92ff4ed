"""`log_softmax` and its backward in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def log_softmax(x: Tensor, out: Tensor) -> Tensor:
    """`out = x - log sum exp(x)` over the last dimension."""
    return out.copy_(torch.log_softmax(x, -1))


def log_softmax_backward(out: Tensor, dout: Tensor, dx: Tensor) -> Tensor:
    """`dx = dout - softmax * sum dout`."""
    return dx.copy_(dout - out.exp() * dout.sum(-1, keepdim=True))
