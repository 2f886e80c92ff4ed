"""Records of the layers that pool over windows of an image."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from .. import kernels
from .records import Record, Tape


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

    def _shape(self) -> dict[str, Any]:
        return dict(kernel=self.kernel, stride=self.stride, padding=self.padding)

    def _argmax(self, tape: Tape, y: Tensor) -> Tensor | None:
        return tape.saved(self.name, y.shape, torch.int32) if self.kind == "max" else None

    def forward(self, tape: Tape) -> None:
        """Window by window; max pooling remembers where."""
        x, y = tape.value(self.inputs[0]), tape.value(self.output)
        kernels.pool(
            x,
            self.kind,
            out=y,
            argmax=self._argmax(tape, y),
            count_include_pad=self.count_include_pad,
            backend=tape.backend,
            **self._shape(),
        )

    def backward(self, tape: Tape) -> None:
        """To the largest element, or spread over the window."""
        dx = tape.collect(self.inputs[0])
        if dx is not None:
            dy = tape.gradient(self.output)
            kernels.pool_backward(
                dy,
                self.kind,
                dx=dx,
                argmax=self._argmax(tape, dy),
                count_include_pad=self.count_include_pad,
                backend=tape.backend,
                **self._shape(),
            )


@dataclass(frozen=True)
class AdaptivePool(Record):
    """Means over nearly equal windows, so many of them; one window may leave no sides behind."""

    size: tuple[int, int]

    def _planes(self, t: Tensor) -> Tensor:
        return t.view(*t.shape[:3], *self.size)

    def forward(self, tape: Tape) -> None:
        """Window by window."""
        x, y = tape.value(self.inputs[0]), self._planes(tape.value(self.output))
        kernels.adaptive_avg(x, self.size, out=y, backend=tape.backend)

    def backward(self, tape: Tape) -> None:
        """Spread over the windows."""
        dx = tape.collect(self.inputs[0])
        if dx is not None:
            dy = self._planes(tape.gradient(self.output))
            kernels.adaptive_avg_backward(dy, dx=dx, backend=tape.backend)
