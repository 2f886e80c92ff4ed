"""Records of the layers that work on sequences: embeddings of tokens, LSTM, one step of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from torch import Tensor

from .. import kernels
from .records import ExecutionContext, Record, sink_arguments


class Layer(NamedTuple):
    """Names of one LSTM layer's parameters, both biases or none."""

    weight_ih: str
    weight_hh: str
    bias_ih: str | None
    bias_hh: str | None

    def weights(self, context: ExecutionContext) -> tuple[Tensor, Tensor]:
        """`[K, 4H, I]` and `[K, 4H, H]`."""
        return context.parameter(self.weight_ih), context.parameter(self.weight_hh)

    def biases(self, context: ExecutionContext) -> dict[str, Tensor]:
        """`[K, 4H]` each, or nothing."""
        named = dict(bias_ih=self.bias_ih, bias_hh=self.bias_hh)
        return {part: context.parameter(name) for part, name in named.items() if name is not None}


@dataclass(frozen=True)
class Embedding(Record):
    """One row of a table for each token; the word `padding` has no gradient."""

    weight: str
    padding: int | None

    @property
    def weights(self) -> tuple[str, ...]:
        """The table."""
        return (self.weight,)

    def forward(self, context: ExecutionContext) -> None:
        """`y = W[token]`."""
        token, y = context.value(self.inputs[0]), context.value(self.output)
        kernels.embedding(token, context.parameter(self.weight), out=y, backend=context.backend)

    def backward(self, context: ExecutionContext) -> None:
        """Each token's gradient to its word; tokens have none."""
        kernels.embedding_backward(
            context.value(self.inputs[0]),
            context.gradient(self.output),
            padding=self.padding,
            backend=context.backend,
            **sink_arguments(context, weight=self.weight),
        )


@dataclass(frozen=True)
class Lstm(Record):
    """Layers of LSTM, each over the hidden states of the one below; h and c start at zero.

    hidden  H
    """

    layers: tuple[Layer, ...]
    hidden: int

    @property
    def weights(self) -> tuple[str, ...]:
        """Those of all layers."""
        return tuple(name for layer in self.layers for name in layer if name is not None)

    def saved_elements(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Gates and cells of every layer; values between layers, and two buffers of gradients."""
        between = len(self.layers) - 1
        return prod(shapes[self.output]) * (5 * len(self.layers) + between + min(between, 2))

    def _buffer(self, context: ExecutionContext, part: str, width: int) -> Tensor:
        y = context.value(self.output)
        return context.saved(f"{self.name}.{part}", (*y.shape[:-1], width), y.dtype)

    def _value(self, context: ExecutionContext, layer: int) -> Tensor:
        """What goes into a layer, or out of the one below."""
        if layer in (0, len(self.layers)):
            return context.value(self.output if layer else self.inputs[0])
        return self._buffer(context, f"out{layer}", self.hidden)

    def _kept(self, context: ExecutionContext, layer: int) -> tuple[Tensor, Tensor]:
        gates = self._buffer(context, f"gates{layer}", 4 * self.hidden)
        return gates, self._buffer(context, f"cells{layer}", self.hidden)

    def forward(self, context: ExecutionContext) -> None:
        """Layer by layer, keeping gates and cells."""
        for n, layer in enumerate(self.layers):
            gates, cells = self._kept(context, n)
            given = dict(gates=gates, cells=cells, out=self._value(context, n + 1))
            given |= layer.biases(context)
            kernels.lstm(
                self._value(context, n),
                *layer.weights(context),
                **given,
                precision=context.precision,
                backend=context.backend,
            )

    def backward(self, context: ExecutionContext) -> None:
        """Through layers and time; two buffers take turns between layers."""
        dout = context.gradient(self.output)
        for n in reversed(range(len(self.layers))):
            layer, dx = self.layers[n], self._below(context, n)
            kernels.lstm_backward(
                self._value(context, n),
                *layer.weights(context),
                *self._kept(context, n),
                self._value(context, n + 1),
                dout,
                dx=dx,
                precision=context.precision,
                backend=context.backend,
                **sink_arguments(context, **layer._asdict()),
            )
            if dx is None:
                return
            dout = dx

    def _below(self, context: ExecutionContext, n: int) -> Tensor | None:
        """Where the gradient of what went into layer n goes; None if nobody needs it."""
        if n == 0:
            return context.collect(self.inputs[0])
        below = {name for layer in self.layers[:n] for name in layer}
        if not context.needs(self.inputs[0]) and below.isdisjoint(self.parameters):
            return None
        return self._buffer(context, f"between{n % 2}", self.hidden)


@dataclass(frozen=True)
class Step(Record):
    """One step of a sequence, `x[:, step]`."""

    step: int

    @property
    def repeats(self) -> bool:
        """Never: a copy by torch."""
        return False

    def forward(self, context: ExecutionContext) -> None:
        """A copy."""
        context.value(self.output).copy_(context.value(self.inputs[0])[:, :, self.step])

    def backward(self, context: ExecutionContext) -> None:
        """To its step; the others get nothing."""
        dx = context.collect(self.inputs[0])
        if dx is not None:
            dx.zero_()
            dx[:, :, self.step] = context.gradient(self.output)
