"""The meaning of the operations on images, in plain torch: convolution, pooling, normalisation.

Client by client, in any floating dtype and on any device; arguments arrive normalised by the public
function of the same name. Backward formulas are written out, not left to autograd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from .layers import _apply, _derivative, squared

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """How a window moves: pairs for height and width, and groups of channels."""

    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)
    groups: int = 1


def folded(
    to: Tensor | None, base: Tensor | None, gradient: Tensor, alpha: Tensor, beta: Tensor
) -> None:
    """`to = beta * base + alpha * gradient`; where beta is 0 base is not read. alpha, beta: []."""
    if to is not None:
        kept = 0.0 if base is None or beta == 0 else beta * base
        to.copy_(kept + alpha * gradient)


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
        out[k] = _apply(y, activation)
    return out


def conv_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    geometry: Geometry,
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor,
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
        dout.mul_(_derivative(x, out, activation))
    shape = (g.stride, g.padding, g.dilation, g.groups)
    for k in range(x.shape[0]):
        if dx is not None:
            dx[k] = conv2d_input(x[k].shape, weight[k], dout[k], *shape)
        dw = conv2d_weight(x[k], weight[k].shape, dout[k], *shape)
        folded(dweight[k], _of(base_weight, k), dw, alpha[k], beta[k])
        folded(_of(dbias, k), _of(base_bias, k), dout[k].sum((0, 2, 3)), alpha[k], beta[k])
    squared(squares, dweight, dbias)


def _of(bank: Tensor | None, k: int) -> Tensor | None:
    return None if bank is None else bank[k]


@dataclass(frozen=True)
class Windows:
    """Windows side by side over the results of a convolution, for their largest elements."""

    planes: Pair  # sides of the results, before they are pooled
    kernel: Pair


def conv_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    windows: Windows,
    activation: str | None,
    out: Tensor,
    tap: Tensor,
    precision: str,
) -> Tensor:
    """`conv`, its results pooled, and the taps of the maxima, see `kernels.conv_pool`."""
    planes = x.new_empty(*out.shape[:3], *windows.planes)
    conv(x, weight, bias, geometry, activation, planes, precision)
    width = windows.planes[1]
    for k in range(x.shape[0]):
        out[k], where = F.max_pool2d(planes[k], windows.kernel, return_indices=True)
        down, across = where // width % windows.kernel[0], where % width % windows.kernel[1]
        tap[k] = down * windows.kernel[1] + across
    return out


def conv_pool_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    tap: Tensor,
    dout: Tensor,
    geometry: Geometry,
    windows: Windows,
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor,
    *sinks: Any,
) -> None:
    """Gradients of `conv_pool`, see `kernels.conv_pool_backward`."""
    if activation is not None:
        dout.mul_(_derivative(x, out, activation))
    (height, width), (kh, kw) = windows.planes, windows.kernel
    planes = x.new_zeros(*out.shape[:3], height, width)
    for t in range(kh * kw):
        rows, columns = slice(t // kw, height // kh * kh, kh), slice(t % kw, width // kw * kw, kw)
        planes[..., rows, columns] = dout.where(tap == t, 0.0)
    conv_backward(x, weight, planes, planes, geometry, None, dx, dweight, *sinks)


def pool(
    x: Tensor,
    kind: str,
    kernel: Pair,
    geometry: Geometry,
    count_padding: bool,
    out: Tensor,
    argmax: Tensor | None,
) -> Tensor:
    """The largest element or the mean of each window, see `kernels.pool`."""
    stride, padding = geometry.stride, geometry.padding
    for k in range(x.shape[0]):
        if kind == "avg":
            out[k] = F.avg_pool2d(x[k], kernel, stride, padding, False, count_padding)
            continue
        out[k], where = F.max_pool2d(x[k], kernel, stride, padding, return_indices=True)
        if argmax is not None:
            argmax[k] = where
    return out


def pool_backward(
    dout: Tensor,
    kind: str,
    kernel: Pair,
    geometry: Geometry,
    count_padding: bool,
    dx: Tensor,
    argmax: Tensor | None,
) -> Tensor:
    """Each window's gradient to its largest element, or spread evenly over it."""
    planes = dx.zero_().flatten(3)
    if argmax is not None:
        return planes.scatter_add_(3, argmax.flatten(3).long(), dout.flatten(3)).view(dx.shape)
    size, (sh, sw), (ph, pw) = dx.shape[3:], geometry.stride, geometry.padding
    for y in range(dout.shape[3]):
        for x in range(dout.shape[4]):
            rows = slice(max(y * sh - ph, 0), min(y * sh - ph + kernel[0], size[0]))
            columns = slice(max(x * sw - pw, 0), min(x * sw - pw + kernel[1], size[1]))
            inside = (rows.stop - rows.start) * (columns.stop - columns.start)
            taps = kernel[0] * kernel[1] if count_padding else inside
            dx[..., rows, columns] += dout[..., y : y + 1, x : x + 1] / taps
    return dx


def _nearly_equal(count: int, size: int) -> list[slice]:
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def adaptive_avg(x: Tensor, out: Tensor) -> Tensor:
    """Means over nearly equal windows that cover the image, see `kernels.adaptive_avg`."""
    for i, rows in enumerate(_nearly_equal(out.shape[3], x.shape[3])):
        for j, columns in enumerate(_nearly_equal(out.shape[4], x.shape[4])):
            out[..., i, j] = x[..., rows, columns].mean((-2, -1))
    return out


def adaptive_avg_backward(dout: Tensor, dx: Tensor) -> Tensor:
    """Each mean's gradient spread over its window."""
    dx.zero_()
    for i, rows in enumerate(_nearly_equal(dout.shape[3], dx.shape[3])):
        for j, columns in enumerate(_nearly_equal(dout.shape[4], dx.shape[4])):
            window = dx[..., rows, columns]
            window += dout[..., i : i + 1, j : j + 1] / window.shape[-2:].numel()
    return dx


def _along_channels(per_channel: Tensor, x: Tensor) -> Tensor:
    """[C] beside x [B, C, ...]."""
    return per_channel.view(-1, *[1] * (x.ndim - 2))


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * _along_channels(weight, x)
    return x if bias is None else x + _along_channels(bias, x)


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor, Tensor] | None,
    count: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    """Each channel by its client's statistics, see `kernels.batch_norm`."""
    for k, n in enumerate(count.tolist()):
        own = x[k, :n].transpose(0, 1).flatten(1)  # [C, elements]
        elements = own.shape[1]
        if not training:
            mean[k], variance = (kept[k] for kept in running or ())
        else:
            mean[k] = own.mean(1) if elements else 0.0
            variance = (own - mean[k][:, None]).square().sum(1) / max(elements, 1)
            if running is not None and elements:
                unbiased = variance * elements / max(elements - 1, 1)
                running[0][k] = (1 - momentum) * running[0][k] + momentum * mean[k]
                running[1][k] = (1 - momentum) * running[1][k] + momentum * unbiased
        rstd[k] = 1 / (variance + eps).sqrt()
        normal = (x[k] - _along_channels(mean[k], x[k])) * _along_channels(rstd[k], x[k])
        out[k] = _scaled(normal, _of(weight, k), _of(bias, k))


def batch_norm_backward(
    x: Tensor,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    count: Tensor,
    training: bool,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
) -> None:
    """Gradients of `batch_norm`; samples beyond a client's count get zeros."""
    for k, n in enumerate(count.tolist()):
        own, dy = x[k, :n], dout[k, :n]
        normal = (own - _along_channels(mean[k], own)) * _along_channels(rstd[k], own)
        sides = [d for d in range(own.ndim) if d != 1]
        dw, db = (dy * normal).sum(sides), dy.sum(sides)
        if dx is not None:
            dx[k, n:] = 0.0
            elements = max(own.numel() // own.shape[1], 1) if own.shape[1] else 1
            pull = dy
            if training:
                shift = _along_channels(db / elements, own)
                pull = dy - shift - normal * _along_channels(dw / elements, own)
            dx[k, :n] = _scaled(pull * _along_channels(rstd[k], own), _of(weight, k), None)
        folded(_of(dweight, k), _of(base_weight, k), dw, alpha[k], beta[k])
        folded(_of(dbias, k), _of(base_bias, k), db, alpha[k], beta[k])


def _grouped(x: Tensor, groups: int) -> Tensor:
    """[B, C, ...] as [B, groups, elements]."""
    return x.reshape(x.shape[0], groups, -1)


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    """Each sample's groups of channels by their own statistics, see `kernels.group_norm`."""
    for k in range(x.shape[0]):
        own = _grouped(x[k], groups)
        mean[k] = own.mean(2)
        centred = own - mean[k][..., None]
        rstd[k] = 1 / (centred.square().mean(2) + eps).sqrt()
        normal = (centred * rstd[k][..., None]).view(x[k].shape)
        out[k] = _scaled(normal, _of(weight, k), _of(bias, k))


def group_norm_backward(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
) -> None:
    """Gradients of `group_norm`."""
    for k in range(x.shape[0]):
        normal = (_grouped(x[k], groups) - mean[k][..., None]) * rstd[k][..., None]
        if dx is not None:
            dy = _grouped(_scaled(dout[k], _of(weight, k), None), groups)
            along = (dy * normal).mean(2, keepdim=True)
            pull = dy - dy.mean(2, keepdim=True) - normal * along
            dx[k] = (pull * rstd[k][..., None]).view(x[k].shape)
        sides = [d for d in range(x.ndim - 1) if d != 1]
        dw = (dout[k] * normal.view(x[k].shape)).sum(sides)
        folded(_of(dweight, k), _of(base_weight, k), dw, alpha[k], beta[k])
        folded(_of(dbias, k), _of(base_bias, k), dout[k].sum(sides), alpha[k], beta[k])
