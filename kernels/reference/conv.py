"""`conv` and its backward in plain torch, client by client."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from ..geometry import Geometry
from .common import activated, client, derivative, folded, squared


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    activation: str | None,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`out = act(x * weight + bias)`, see `kernels.conv`."""
    g = geometry
    for k in range(x.shape[0]):
        own = None if bias is None else bias[k]
        y = F.conv2d(x[k], weight[k], own, g.stride, g.padding, g.dilation, g.groups)
        out[k] = activated(y, activation)
    return out


def conv_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    geometry: Geometry,
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
    precision: str,
    squares: Tensor | None,
) -> None:
    """Gradients of `conv`, see `kernels.conv_backward`."""
    g = geometry
    if activation is not None:
        dout.mul_(derivative(x, out, activation))
    shape = (g.stride, g.padding, g.dilation, g.groups)
    for k in range(x.shape[0]):
        if dx is not None:
            dx[k] = conv2d_input(x[k].shape, weight[k], dout[k], *shape)
        dw = conv2d_weight(x[k], weight[k].shape, dout[k], *shape)
        folded(client(dweight, k), client(base_weight, k), dw, alpha[k], beta[k])
        folded(client(dbias, k), client(base_bias, k), dout[k].sum((0, 2, 3)), alpha[k], beta[k])
    squared(squares, dweight, dbias)
