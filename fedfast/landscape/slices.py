"""`Slice`: a line or a plane in the space of models, as rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import kernels
from ..layout import FlatLayout

VARIANCE = "running_var"  # what BatchNorm calls it


@dataclass(frozen=True, eq=False)
class Slice:
    """The models `w(a, b) = origin + a u + b v`; a line has no v.

    layout  of rows
    origin  `[S]`
    axes    `[D, S]`, D 1 or 2. Of running statistics too: beside models they lie between those of
            the models; a variance that would be negative, beyond them, is 0
    unit    what coordinates count, for the labels of figures
    marks   name -> coordinates of a model
    """

    layout: FlatLayout
    origin: Tensor
    axes: Tensor
    unit: str
    marks: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def dimensions(self) -> int:
        """1 or 2."""
        return len(self.axes)

    def rows(self, at: Tensor, out: Tensor, backend: str = "auto") -> Tensor:
        """The models at coordinates `at` `[K, D]`, written to `out` `[K, S]`.

        A row's bits do not depend on the other rows. Raises ValueError for other shapes.
        """
        if at.ndim != 2 or at.shape[1] != self.dimensions:
            raise ValueError(f"at: expected [K, {self.dimensions}]; got {list(at.shape)}")
        if out.shape != (len(at), len(self.origin)):
            expected = [len(at), len(self.origin)]
            raise ValueError(f"out: expected {expected}; got {list(out.shape)}")
        at = at.to(out.device, out.dtype)
        before = self.origin
        for d, axis in enumerate(self.axes):
            kernels.mix(before, axis, b=at[:, d].contiguous(), out=out, backend=backend)
            before = out
        for slot in self.layout.slots:
            if slot.name.rpartition(".")[2] == VARIANCE:
                out[:, slot.offset : slot.stop].clamp_(min=0)
        return out

    def row(self, *at: float) -> Tensor:
        """The model at one point, a new row `[S]`."""
        out = self.origin.new_empty(1, len(self.origin))
        return self.rows(torch.tensor([at], dtype=torch.float64), out)[0]
