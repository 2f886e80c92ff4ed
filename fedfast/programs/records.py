"""Layer records: what one layer reads, what it writes, and its forward and backward operations.

A record sees its tensors through a `Tape`: activations `[K, B, ...]` by value number, parameters
and their destinations `[K, ...]` by name. Values are numbered in the order they are computed; 0 is
the input. `gradient(v)` is what later layers have collected for value v.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import kernels
from ..kernels._args import Coefficient


@dataclass(frozen=True)
class Sink:
    """Where a parameter's gradient goes: `out = beta * base + alpha * gradient`, all `[K, ...]`.

    Plain gradients have alpha 1, beta 0. A folded SGD step has alpha = -lr, beta = 1 - lr * decay,
    base the weights the step starts from, out the weights after it.
    """

    out: Tensor
    alpha: Coefficient = 1.0
    beta: Coefficient = 0.0
    base: Tensor | None = None


class Tape(Protocol):
    """What a record may ask for while a batch runs; see `ProgramPath`."""

    backend: str
    count: Tensor  # [K] samples of each client's batch

    def value(self, v: int) -> Tensor:
        """Value v, `[K, B, ...]`."""

    def saved(self, key: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A buffer `[K, ...]` that lasts from a record's forward to its backward."""

    def parameter(self, name: str) -> Tensor:
        """A parameter of all clients, `[K, ...]`."""

    def buffer(self, name: str) -> Tensor | None:
        """A buffer of all clients, `[K, ...]`, to be updated; None where it must stay."""

    def sink(self, name: str) -> Sink:
        """Where the gradient of a parameter goes."""

    def needs(self, v: int) -> bool:
        """Whether the gradient of value v leads to a parameter."""

    def gradient(self, v: int) -> Tensor:
        """The collected gradient of value v, `[K, B, ...]`."""

    def collect(self, v: int) -> Tensor | None:
        """A buffer to write a contribution to the gradient of v into; None if nobody needs it."""


@dataclass(frozen=True)
class Record:
    """A layer: `name` in the module, `inputs` and `output` value numbers, `parameters` it reads."""

    name: str
    inputs: tuple[int, ...]
    output: int

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the trained parameters the layer reads."""
        return ()

    @property
    def buffers(self) -> tuple[str, ...]:
        """Names of the buffers the layer updates."""
        return ()

    def forward(self, tape: Tape) -> None:
        """Write `tape.value(self.output)`."""
        raise NotImplementedError

    def backward(self, tape: Tape) -> None:
        """From the gradient of the output: parameters' sinks, then the inputs' gradients."""
        raise NotImplementedError


def sink_arguments(tape: Tape, weight: str | None, bias: str | None) -> dict[str, Any]:
    """The arguments of a backward operation that say where parameters' gradients go."""
    w, b = (None if name is None else tape.sink(name) for name in (weight, bias))
    given = w or b or Sink(torch.empty(0))
    if w is not None and b is not None and w.beta is not b.beta and w.beta != b.beta:
        # A tied weight adds to its other layer's gradient, its bias starts anew: from zero, then.
        fresh = b if b.beta == 0 else w
        fresh.out.zero_()
        given = w if fresh is b else b
    return dict(
        dweight=None if w is None else w.out,
        dbias=None if b is None else b.out,
        alpha=given.alpha,
        beta=given.beta,
        base_weight=None if w is None else w.base,
        base_bias=None if b is None else b.base,
    )


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

    def _tensors(self, tape: Tape) -> tuple[Tensor, Tensor, Tensor | None]:
        bias = None if self.bias is None else tape.parameter(self.bias)
        return tape.value(self.inputs[0]), tape.parameter(self.weight), bias

    def _sinks(self, tape: Tape) -> dict[str, Any]:
        return sink_arguments(tape, self.weight, self.bias)


@dataclass(frozen=True)
class Linear(Weighted):
    """`y = act(x W^T + b)`."""

    def forward(self, tape: Tape) -> None:
        """Fused with bias and activation."""
        x, weight, bias = self._tensors(tape)
        out = tape.value(self.output)
        kernels.linear(x, weight, bias, activation=self.activation, out=out, backend=tape.backend)

    def backward(self, tape: Tape) -> None:
        """dx = dy W, dW = dy^T x, db = sum dy."""
        x, weight, _ = self._tensors(tape)
        kernels.linear_backward(
            x,
            weight,
            tape.value(self.output),
            tape.gradient(self.output),
            activation=self.activation,
            dx=tape.collect(self.inputs[0]),
            backend=tape.backend,
            **self._sinks(tape),
        )


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
        kernels.conv(x, weight, bias, out=out, backend=tape.backend, **self._shape())

    def backward(self, tape: Tape) -> None:
        """Data gradient, then weight gradient."""
        x, weight, _ = self._tensors(tape)
        kernels.conv_backward(
            x,
            weight,
            tape.value(self.output),
            tape.gradient(self.output),
            dx=tape.collect(self.inputs[0]),
            backend=tape.backend,
            **self._shape(),
            **self._sinks(tape),
        )


@dataclass(frozen=True)
class Activation(Record):
    """An element-wise activation that no layer before it could take in."""

    kind: str
    slope: float = 0.01

    def forward(self, tape: Tape) -> None:
        """`y = act(x)`."""
        x, y = tape.value(self.inputs[0]), tape.value(self.output)
        kernels.activation(x, self.kind, slope=self.slope, out=y, backend=tape.backend)

    def backward(self, tape: Tape) -> None:
        """`dx = dy act'(x)`."""
        dx = tape.collect(self.inputs[0])
        if dx is not None:
            x, y = tape.value(self.inputs[0]), tape.value(self.output)
            dy = tape.gradient(self.output)
            kernels.activation_backward(
                x, y, dy, self.kind, slope=self.slope, dx=dx, backend=tape.backend
            )


@dataclass(frozen=True)
class Pool(Record):
    """Max or average pooling over windows."""

    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    count_include_pad: bool

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
class Reshape(Record):
    """The same memory under another shape: flatten, view, identity."""

    def forward(self, tape: Tape) -> None:
        """Nothing: the output value is a view of the input value."""

    def backward(self, tape: Tape) -> None:
        """The same view, of the gradient."""
        dx = tape.collect(self.inputs[0])
        if dx is not None:
            dx.copy_(tape.gradient(self.output).view(dx.shape))


@dataclass(frozen=True)
class Add(Record):
    """Residual addition of two values of one shape."""

    def forward(self, tape: Tape) -> None:
        """`y = a + b`."""
        a, b = (tape.value(v).flatten(1) for v in self.inputs)
        kernels.mix(a, b, out=tape.value(self.output).flatten(1), backend=tape.backend)

    def backward(self, tape: Tape) -> None:
        """`da = db = dy`."""
        for v in self.inputs:
            dx = tape.collect(v)
            if dx is not None:
                dx.copy_(tape.gradient(self.output))
