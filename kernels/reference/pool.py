"""`pool`, `adaptive_avg` and their backwards in plain torch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..geometry import Geometry, Pair


def pool(
    x: Tensor,
    kind: str,
    kernel: Pair,
    geometry: Geometry,
    count_include_pad: bool,
    out: Tensor,
    argmax: Tensor | None,
) -> Tensor:
    """The largest element or the mean of each window, see `kernels.pool`."""
    stride, padding = geometry.stride, geometry.padding
    for k in range(x.shape[0]):
        if kind == "avg":
            out[k] = F.avg_pool2d(x[k], kernel, stride, padding, False, count_include_pad)
            continue
        out[k], where = F.max_pool2d(x[k], kernel, stride, padding, return_indices=True)
        if argmax is not None:
            argmax[k] = where
    return out


def pool_backward(
    kind: str,
    kernel: Pair,
    geometry: Geometry,
    count_include_pad: bool,
    dx: Tensor,
    dout: Tensor,
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
            taps = kernel[0] * kernel[1] if count_include_pad else inside
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
