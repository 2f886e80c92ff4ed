"""`conv_pool` by a library: one block's results are in memory, and torch pools them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Geometry, Windows
from .blocks import blocks
from .candidates import Candidate
from .conv import backward
from .products import products
from .settings import settled
from .sinks import finish, part


def conv_pool(
    how: Candidate,
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
    """`conv_pool` by a library."""
    by = products(how)
    with settled(precision):
        for at in blocks(len(x), how.clients):
            z = by.forward(x[at], weight[at], geometry)
            planes = torch.empty_like(z, memory_format=torch.contiguous_format)
            finish(z, part(bias, at), activation, planes)
            _pool(planes, windows, out[at], tap[at])
    return out


def conv_pool_backward(
    how: Candidate,
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    tap: Tensor,
    dout: Tensor,
    geometry: Geometry,
    windows: Windows,
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
    """`conv_pool_backward` by a library; like Triton's it leaves dout act'(out) in dout."""

    def planes(at: slice) -> Tensor:
        return _spread(dout[at], tap[at], windows)

    sinks = dx, dweight, dbias, alpha, beta, base_weight, base_bias, precision, squares
    backward(how, x, weight, out, dout, geometry, activation, planes, *sinks)


def _pool(planes: Tensor, windows: Windows, out: Tensor, tap: Tensor) -> None:
    """Each window's largest element, and its place there; of equals the first, a NaN is largest."""
    width, (down, across) = windows.planes[1], windows.kernel
    largest, at = F.max_pool2d(planes.flatten(0, 1), windows.kernel, return_indices=True)
    out.copy_(largest.view(out.shape))
    place = at // width % down * across + at % width % across
    tap.copy_(place.view(tap.shape))


def _spread(dout: Tensor, tap: Tensor, windows: Windows) -> Tensor:
    """`[n, B, O, P, Q]`: dout where each window's largest element is, 0 elsewhere."""
    (down, across), (height, width) = windows.kernel, dout.shape[3:]
    made = dout.new_zeros(*dout.shape[:3], *windows.planes)
    covered = made[..., : height * down, : width * across]
    place = torch.arange(down * across, device=dout.device).view(down, 1, across)
    here, each = tap[..., :, None, :, None] == place, dout[..., :, None, :, None]
    each = torch.where(here, each, dout.new_zeros(()))
    covered.copy_(each.flatten(5, 6).flatten(3, 4))
    return made
