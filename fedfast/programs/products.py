"""Records of the layers that are products: linear layers and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from .. import kernels
from ..kernels.choices import Choice
from .records import Arguments, ExecutionContext, Norms, Record, sink_arguments


@dataclass(frozen=True)
class ProductLayer(Record):
    """A layer with a weight, perhaps a bias, perhaps an activation fused behind it.

    choice  which backends form its products, by the table (`choices.py`)
    """

    weight: str
    bias: str | None
    activation: str | None
    choice: Choice = field(default=Choice(), kw_only=True)

    @property
    def weights(self) -> tuple[str, ...]:
        """Weight and bias."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def adds(self) -> bool:
        """Whether the operation adds what corrects the gradients."""
        return False

    @property
    def remembers(self) -> tuple[int, ...]:
        """The input for the weight's gradient, the output for the activation's."""
        before = () if self.weight in self.frozen else self.inputs
        return before if self.activation is None else (*before, self.output)

    @property
    def overwrites(self) -> bool:
        """The gradient before its activation replaces the one behind it."""
        return self.activation is not None

    def _tensors(self, context: ExecutionContext) -> tuple[Tensor, Tensor, Tensor | None]:
        bias = None if self.bias is None else context.parameter(self.bias)
        return context.value(self.inputs[0]), context.parameter(self.weight), bias

    def _how(self, context: ExecutionContext, backend: str = "") -> Arguments:
        """backend: of the product at hand, if it is not the run's."""
        return dict(backend=backend or context.backend, precision=context.precision)

    def _sinks(self, context: ExecutionContext) -> Arguments:
        sinks = sink_arguments(context, self.adds, weight=self.weight, bias=self.bias)
        return sinks | dict(squares=context.squares(self.output))

    def _differentiate(
        self,
        context: ExecutionContext,
        operation: Callable[..., object],
        dx: Tensor | None,
        sinks: Arguments,
    ) -> None:
        """dx and the parameters' gradients, in one call unless two backends form them."""
        x, weight, _ = self._tensors(context)
        given, d = (x, weight, context.value(self.output)), context.gradient(self.output)
        choice, ahead = self.choice, dict(activation=self.activation)
        if dx is not None and sinks and self.parameters and choice.data != choice.weight:
            operation(*given, dout=d, dx=dx, **self._how(context, choice.data) | ahead)
            dx, ahead = None, dict(activation=None)  # which the gradient is behind no more
        one = choice.weight if dx is None else choice.data
        operation(*given, dout=d, dx=dx, **self._how(context, one) | ahead | sinks)


@dataclass(frozen=True)
class Linear(ProductLayer):
    """`y = act(x W^T + b)`."""

    @property
    def adds(self) -> bool:
        """Where it stores the new weights."""
        return True

    @property
    def overwrites(self) -> bool:
        """So that SAM finds a factor where it left it, no other value shares the memory."""
        return True

    def forward(self, context: ExecutionContext) -> None:
        """Fused with bias and activation."""
        x, weight, bias = self._tensors(context)
        out = context.value(self.output)
        how = self._how(context, self.choice.forward) | dict(activation=self.activation)
        kernels.linear(x, weight, bias, out=out, **how)

    def backward(self, context: ExecutionContext) -> None:
        """dx = dy W, dW = dy^T x, db = sum dy."""
        self.descend(context)

    def descend(self, context: ExecutionContext) -> Tensor | None:
        """`backward`; returns dx, if anybody needs it. A weight gradient that waits is measured."""
        dx, waiting = context.collect(self.inputs[0]), context.waiting(self.output)
        sinks = self._sinks(context) if waiting is None else {}
        self._differentiate(context, kernels.linear_backward, dx, sinks)
        if waiting is not None:
            x, d = context.value(self.inputs[0]), context.gradient(self.output)
            ones, to = float(self.bias in self.parameters), self._how(context)
            kernels.ghost(x, d, ones=ones, gram=waiting.gram, squares=waiting.squares, **to)
        return dx

    def join(self, context: ExecutionContext, addends: Mapping[str, Tensor], norms: Norms) -> None:
        """The squares of a weight gradient that has waited, its addend added."""
        d, biased = context.gradient(self.output), self.bias in self.parameters
        kernels.joined(
            context.value(self.inputs[0]),
            d,
            ones=float(biased),
            add_weight=addends[self.weight],
            add_bias=addends[str(self.bias)] if biased else None,
            known=norms.known,
            added=[norms.apart],
            limit=norms.limit,
            squares=norms.out,
            **self._how(context),
        )

    def update(self, context: ExecutionContext) -> None:
        """The weight gradient that has waited; `descend` has left the activation's behind d."""
        x, weight, _ = self._tensors(context)
        out, d = context.value(self.output), context.gradient(self.output)
        how = self._how(context, self.choice.weight) | self._sinks(context)
        kernels.linear_backward(x, weight, out, d, **how)


@dataclass(frozen=True)
class Conv(ProductLayer):
    """Two-dimensional convolution with any stride, padding, dilation and groups."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def _operations(self) -> tuple[Callable[..., object], Callable[..., object]]:
        return kernels.conv, kernels.conv_backward

    def _how(self, context: ExecutionContext, backend: str = "") -> Arguments:
        return super()._how(context, backend) | dict(
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            activation=self.activation,
        )

    def forward(self, context: ExecutionContext) -> None:
        """Fused with bias and activation."""
        x, weight, bias = self._tensors(context)
        out, (convolve, _) = context.value(self.output), self._operations()
        convolve(x, weight, bias, out=out, **self._how(context, self.choice.forward))

    def backward(self, context: ExecutionContext) -> None:
        """Data gradient, then weight gradient."""
        _, differentiate = self._operations()
        dx = context.collect(self.inputs[0])
        self._differentiate(context, differentiate, dx, self._sinks(context))


@dataclass(frozen=True)
class ConvPool(Conv):
    """A convolution and the largest elements of windows side by side over its results.

    Before or after a rising activation the largest is the same one: `window` is taken of its
    results, the value `convolved`, which is never in memory as a whole.
    """

    window: tuple[int, int]
    convolved: int

    def planes(self, image: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """Sides of the convolution's results before they are pooled."""
        moves = zip(image, kernel, self.stride, self.padding, self.dilation, strict=True)
        return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in moves]

    def saved_elements(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """A byte for every result, counted as a float's."""
        return -(-prod(shapes[self.output]) // torch.float32.itemsize)

    def scratch_elements(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """The gradient of the convolution's results: on a GPU it is put back to the maxima."""
        return prod(shapes[self.convolved])

    def _operations(self) -> tuple[Callable[..., object], Callable[..., object]]:
        return kernels.conv_pool, kernels.conv_pool_backward

    def _how(self, context: ExecutionContext, backend: str = "") -> Arguments:
        """With the memory for which of its window's elements each maximum is."""
        tap = context.saved(self.name, context.value(self.output).shape, torch.uint8)
        return super()._how(context, backend) | dict(kernel=self.window, tap=tap)
