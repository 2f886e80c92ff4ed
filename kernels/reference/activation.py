"""`activation` and its backward in plain torch."""

from __future__ import annotations

from torch import Tensor

from .common import activated, derivative


def activation(x: Tensor, kind: str, slope: float, out: Tensor) -> Tensor:
    """`out = act(x)`."""
    return out.copy_(activated(x, kind, slope))


def activation_backward(
    x: Tensor, out: Tensor, dout: Tensor, kind: str, slope: float, dx: Tensor
) -> Tensor:
    """`dx = dout * act'(x)`."""
    return dx.copy_(dout * derivative(x, out, kind, slope))
