"""Records of the layers that work on sequences: embeddings of tokens, LSTM, one step of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from .. import kernels
from .records import Record, Tape, sink_arguments

PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of an LSTM layer, in torch's words


@dataclass(frozen=True)
class Embedding(Record):
    """One row of a table for each token; the word `padding` has no gradient."""

    weight: str
    padding: int | None

    @property
    def parameters(self) -> tuple[str, ...]:
        """The table."""
        return (self.weight,)

    def forward(self, tape: Tape) -> None:
        """`y = W[token]`."""
        token, y = tape.value(self.inputs[0]), tape.value(self.output)
        kernels.embedding(token, tape.parameter(self.weight), out=y, backend=tape.backend)

    def backward(self, tape: Tape) -> None:
        """Each token's gradient to its word; tokens have none."""
        kernels.embedding_backward(
            tape.value(self.inputs[0]),
            tape.gradient(self.output),
            padding=self.padding,
            backend=tape.backend,
            **sink_arguments(tape, weight=self.weight),
        )


@dataclass(frozen=True)
class Lstm(Record):
    """Layers of LSTM, each over the hidden states of the one below; h and c start at zero.

    layers  for each layer the names of `PARTS`, None for lacking biases
    hidden  H
    """

    layers: tuple[tuple[str | None, ...], ...]
    hidden: int

    @property
    def parameters(self) -> tuple[str, ...]:
        """Those of all layers."""
        return tuple(name for names in self.layers for name in names if name is not None)

    def kept(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Gates and cells of every layer; values between layers, and two buffers of gradients."""
        between = len(self.layers) - 1
        return prod(shapes[self.output]) * (5 * len(self.layers) + between + min(between, 2))

    def _buffer(self, tape: Tape, part: str, width: int) -> Tensor:
        y = tape.value(self.output)
        return tape.saved(f"{self.name}.{part}", (*y.shape[:-1], width), y.dtype)

    def _value(self, tape: Tape, layer: int) -> Tensor:
        """What goes into a layer, or out of the one below."""
        if layer in (0, len(self.layers)):
            return tape.value(self.output if layer else self.inputs[0])
        return self._buffer(tape, f"out{layer}", self.hidden)

    def _kept(self, tape: Tape, layer: int) -> tuple[Tensor, Tensor]:
        gates = self._buffer(tape, f"gates{layer}", 4 * self.hidden)
        return gates, self._buffer(tape, f"cells{layer}", self.hidden)

    def _weights(self, tape: Tape, layer: int) -> list[Tensor | None]:
        names = self.layers[layer]
        return [None if name is None else tape.parameter(name) for name in names]

    def forward(self, tape: Tape) -> None:
        """Layer by layer, keeping gates and cells."""
        for layer in range(len(self.layers)):
            gates, cells = self._kept(tape, layer)
            x, out = self._value(tape, layer), self._value(tape, layer + 1)
            weights = self._weights(tape, layer)
            kernels.lstm(x, *weights, gates=gates, cells=cells, out=out, backend=tape.backend)

    def backward(self, tape: Tape) -> None:
        """Through layers and time; two buffers take turns between layers."""
        dout = tape.gradient(self.output)
        for layer in reversed(range(len(self.layers))):
            between = self._buffer(tape, f"between{layer % 2}", self.hidden) if layer else None
            dx = tape.collect(self.inputs[0]) if layer == 0 else between
            kernels.lstm_backward(
                self._value(tape, layer),
                *self._weights(tape, layer)[:2],
                *self._kept(tape, layer),
                self._value(tape, layer + 1),
                dout,
                dx=dx,
                backend=tape.backend,
                **sink_arguments(tape, **dict(zip(PARTS, self.layers[layer], strict=True))),
            )
            dout = dout if dx is None else dx


@dataclass(frozen=True)
class Step(Record):
    """One step of a sequence, `x[:, step]`."""

    step: int

    def forward(self, tape: Tape) -> None:
        """A copy."""
        tape.value(self.output).copy_(tape.value(self.inputs[0])[:, :, self.step])

    def backward(self, tape: Tape) -> None:
        """To its step; the others get nothing."""
        dx = tape.collect(self.inputs[0])
        if dx is not None:
            dx.zero_()
            dx[:, :, self.step] = tape.gradient(self.output)
