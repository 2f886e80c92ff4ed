"""Records of the layers that pool over windows of an image."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from .. import kernels
from .records import Arguments, ExecutionContext, Record


@dataclass(frozen=True)
class Pool(Record):
    """Max or average pooling over windows."""

    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    count_include_pad: bool

    @property
    def apart(self) -> bool:
        """Whether it takes the largest of few elements, each in one window: see `ConvPool`.

        Powers of two alone: on CUDA others would leave places of a tile empty.
        """
        touching = self.stride == self.kernel and self.padding == (0, 0)
        return self.kind == "max" and touching and prod(self.kernel) in (2, 4, 8, 16)

    def _how(self, context: ExecutionContext, y: Tensor) -> Arguments:
        saved = context.saved(self.name, y.shape, torch.int32) if self.kind == "max" else None
        return dict(
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            argmax=saved,
            count_include_pad=self.count_include_pad,
            backend=context.backend,
        )

    def forward(self, context: ExecutionContext) -> None:
        """Window by window; max pooling remembers where."""
        x, y = context.value(self.inputs[0]), context.value(self.output)
        kernels.pool(x, self.kind, out=y, **self._how(context, y))

    def backward(self, context: ExecutionContext) -> None:
        """To the largest element, or spread over the window."""
        dx = context.collect(self.inputs[0])
        if dx is not None:
            dy = context.gradient(self.output)
            kernels.pool_backward(dy, self.kind, dx=dx, **self._how(context, dy))


@dataclass(frozen=True)
class AdaptivePool(Record):
    """Means over nearly equal windows, so many of them; one window may leave no sides behind."""

    size: tuple[int, int]

    def _planes(self, t: Tensor) -> Tensor:
        return t.view(*t.shape[:3], *self.size)

    def forward(self, context: ExecutionContext) -> None:
        """Window by window."""
        x, y = context.value(self.inputs[0]), self._planes(context.value(self.output))
        kernels.adaptive_avg(x, self.size, out=y, backend=context.backend)

    def backward(self, context: ExecutionContext) -> None:
        """Spread over the windows."""
        dx = context.collect(self.inputs[0])
        if dx is not None:
            dy = self._planes(context.gradient(self.output))
            kernels.adaptive_avg_backward(dy, dx=dx, backend=context.backend)
