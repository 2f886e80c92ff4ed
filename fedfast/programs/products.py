"""Records of the layers that are products: linear layers and convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from .. import kernels
from .records import Record, Tape, sink_arguments


@dataclass(frozen=True)
class Weighted(Record):
    """A layer with a weight, perhaps a bias, perhaps an activation fused behind it."""

    weight: str
    bias: str | None
    activation: str | None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Weight and bias."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def overwrites(self) -> bool:
        """The gradient before its activation replaces the one behind it."""
        return self.activation is not None

    def _tensors(self, tape: Tape) -> tuple[Tensor, Tensor, Tensor | None]:
        bias = None if self.bias is None else tape.parameter(self.bias)
        return tape.value(self.inputs[0]), tape.parameter(self.weight), bias

    def _how(self, tape: Tape) -> dict[str, Any]:
        return dict(backend=tape.backend, precision=tape.precision)

    def _sinks(self, tape: Tape) -> dict[str, Any]:
        sinks = sink_arguments(tape, weight=self.weight, bias=self.bias)
        return sinks | dict(squares=tape.squares(self.output))


@dataclass(frozen=True)
class Linear(Weighted):
    """`y = act(x W^T + b)`."""

    @property
    def overwrites(self) -> bool:
        """So that SAM finds a factor where it left it, no other value shares the memory."""
        return True

    def forward(self, tape: Tape) -> None:
        """Fused with bias and activation."""
        x, weight, bias = self._tensors(tape)
        out = tape.value(self.output)
        kernels.linear(x, weight, bias, activation=self.activation, out=out, **self._how(tape))

    def backward(self, tape: Tape) -> None:
        """dx = dy W, dW = dy^T x, db = sum dy."""
        self.descend(tape)

    def descend(self, tape: Tape) -> Tensor | None:
        """`backward`; returns dx, if anybody needs it. A weight gradient that waits is measured."""
        x, weight, bias = self._tensors(tape)
        out, d = tape.value(self.output), tape.gradient(self.output)
        dx, waiting = tape.collect(self.inputs[0]), tape.waiting(self.output)
        how = self._how(tape) | dict(activation=self.activation, dx=dx)
        sinks = self._sinks(tape) if waiting is None else {}
        kernels.linear_backward(x, weight, out, d, **how, **sinks)
        if waiting is not None:
            to: dict[str, Any] = dict(gram=waiting.gram, squares=waiting.squares)
            kernels.ghost(x, d, ones=float(bias is not None), backend=tape.backend, **to)
        return dx

    def update(self, tape: Tape) -> None:
        """The weight gradient that has waited; `descend` has left the activation's behind d."""
        x, weight, _ = self._tensors(tape)
        out, d = tape.value(self.output), tape.gradient(self.output)
        kernels.linear_backward(x, weight, out, d, **self._how(tape), **self._sinks(tape))


@dataclass(frozen=True)
class Conv(Weighted):
    """Two-dimensional convolution with any stride, padding, dilation and groups."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def _shape(self) -> dict[str, Any]:
        return dict(
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            activation=self.activation,
        )

    def forward(self, tape: Tape) -> None:
        """Fused with bias and activation."""
        x, weight, bias = self._tensors(tape)
        out = tape.value(self.output)
        kernels.conv(x, weight, bias, out=out, **self._how(tape), **self._shape())

    def backward(self, tape: Tape) -> None:
        """Data gradient, then weight gradient."""
        x, weight, _ = self._tensors(tape)
        kernels.conv_backward(
            x,
            weight,
            tape.value(self.output),
            tape.gradient(self.output),
            dx=tape.collect(self.inputs[0]),
            **self._how(tape),
            **self._shape(),
            **self._sinks(tape),
        )


@dataclass(frozen=True)
class ConvPool(Conv):
    """A convolution and the largest elements of windows side by side over its results.

    Before or after a rising activation the largest is the same one: `window` is taken of its
    results.
    """

    window: tuple[int, int]

    def kept(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """A byte for every result, counted as a float's."""
        return -(-prod(shapes[self.output]) // torch.float32.itemsize)

    def _shape(self) -> dict[str, Any]:
        return super()._shape() | dict(kernel=self.window)

    def _tap(self, tape: Tape) -> Tensor:
        return tape.saved(self.name, tape.value(self.output).shape, torch.uint8)

    def forward(self, tape: Tape) -> None:
        """Writes the maxima, and which of its window's elements each of them is."""
        x, weight, bias = self._tensors(tape)
        to: dict[str, Any] = dict(out=tape.value(self.output), tap=self._tap(tape))
        kernels.conv_pool(x, weight, bias, **to, **self._how(tape), **self._shape())

    def backward(self, tape: Tape) -> None:
        """As `Conv`, from the maxima's gradients."""
        x, weight, _ = self._tensors(tape)
        kernels.conv_pool_backward(
            x,
            weight,
            tape.value(self.output),
            self._tap(tape),
            tape.gradient(self.output),
            dx=tape.collect(self.inputs[0]),
            **self._how(tape),
            **self._shape(),
            **self._sinks(tape),
        )
