"""A block's convolutions and their gradients by a library; operands `[n, ...]`, n <= its clients.

`Grouped`: one convolution of all clients side by side. `Unfolded`: the windows' elements in memory,
`[C / groups kh kw, B P Q]` for every client and group, times the weight.
Source: Chetlur et al. 2014 (cuDNN) for grouped convolutions; Chellapilla et al. 2006 for unfolding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Geometry
from .blocks import apart, filled, side_by_side, windows
from .candidates import Candidate

Gradients = tuple[Tensor | None, Tensor | None]


class Products(Protocol):
    """How a library forms them."""

    def forward(self, x: Tensor, weight: Tensor, g: Geometry) -> Tensor:
        """`x * weight` `[n, B, O, P, Q]`, of x `[n, B, C, H, W]`, weight `[n, O, ...]`."""

    def backward(
        self, x: Tensor, weight: Tensor, d: Tensor, g: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """Gradients of x and of weight from that of the result, each if it is wanted."""


@dataclass(frozen=True)
class Grouped:
    """torch's convolution with as many times the groups: cuDNN's on CUDA."""

    how: Candidate

    def forward(self, x: Tensor, weight: Tensor, g: Geometry) -> Tensor:
        """See `Products`."""
        images, filters = side_by_side(x, 1, self.how), side_by_side(weight, 0, self.how)
        groups = self.how.clients * g.groups
        found = F.conv2d(images, filters, None, g.stride, g.padding, g.dilation, groups)
        return apart(found, 1, self.how.clients)[: len(x)]

    def backward(
        self, x: Tensor, weight: Tensor, d: Tensor, g: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """See `Products`."""
        how, count = self.how, len(x)
        images = side_by_side(x, 1, how, read=wanted[1])
        filters = side_by_side(weight, 0, how, read=wanted[0])
        dx, dweight, _ = torch.ops.aten.convolution_backward(
            *(side_by_side(d, 1, how), images, filters, None, g.stride, g.padding, g.dilation),
            *(False, (0, 0), how.clients * g.groups, (*wanted, False)),
        )
        return (
            apart(dx, 1, how.clients)[:count] if wanted[0] else None,
            apart(dweight, 0, how.clients)[:count] if wanted[1] else None,
        )


@dataclass(frozen=True)
class Unfolded:
    """Batched products, cuBLAS' on CUDA."""

    how: Candidate

    def forward(self, x: Tensor, weight: Tensor, g: Geometry) -> Tensor:
        """See `Products`."""
        size, batch = self.how.clients, x.shape[1]
        sides = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                x.shape[3:], g.padding, g.dilation, weight.shape[3:], g.stride, strict=True
            )
        ]
        columns = windows(filled(x, size), weight, sides, g)
        found = torch.bmm(_matrices(filled(weight, size), g), columns)
        return found.view(size, weight.shape[1], batch, *sides).transpose(1, 2)[: len(x)]

    def backward(
        self, x: Tensor, weight: Tensor, d: Tensor, g: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """See `Products`."""
        size, dx, dweight = self.how.clients, None, None
        places, outputs = d.shape[3:], weight.shape[1] // g.groups
        flat = filled(d, size).transpose(1, 2).reshape(size * g.groups, outputs, -1)
        if wanted[0]:
            columns = torch.bmm(_matrices(filled(weight, size), g).mT, flat)
            dx = self._folded(columns, x, weight, g)[: len(x)]
        if wanted[1]:
            found = torch.bmm(flat, windows(filled(x, size), weight, places, g).mT)
            dweight = found.view(size, *weight.shape[1:])[: len(x)]
        return dx, dweight

    def _folded(self, columns: Tensor, x: Tensor, weight: Tensor, g: Geometry) -> Tensor:
        """Images `[clients, B, C, H, W]`: an element adds up what its windows' `columns` hold."""
        size, batch, taps = self.how.clients, x.shape[1], weight.shape[3:]
        each = columns.view(size, x.shape[2] * taps.numel(), batch, -1).transpose(1, 2)
        images = F.fold(
            each.flatten(0, 1), x.shape[3:], taps, g.dilation, g.padding, g.stride
        )  # of an element's windows one after another
        return images.view(size, *x.shape[1:])


def _matrices(weight: Tensor, g: Geometry) -> Tensor:
    """`[clients groups, O / groups, C / groups kh kw]`."""
    clients, outputs = weight.shape[:2]
    return weight.reshape(clients * g.groups, outputs // g.groups, -1)


def products(how: Candidate) -> Products:
    """Of a candidate."""
    return Grouped(how) if how.library == "cudnn" else Unfolded(how)
