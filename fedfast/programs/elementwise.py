"""Records of the layers that work element by element."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .. import kernels
from .records import ExecutionContext, Record


@dataclass(frozen=True)
class Activation(Record):
    """An element-wise activation that no layer before it could take in."""

    kind: str
    slope: float = 0.01

    def forward(self, context: ExecutionContext) -> None:
        """`y = act(x)`."""
        x, y = context.value(self.inputs[0]), context.value(self.output)
        kernels.activation(x, self.kind, slope=self.slope, out=y, backend=context.backend)

    def backward(self, context: ExecutionContext) -> None:
        """`dx = dy act'(x)`."""
        dx = context.collect(self.inputs[0])
        if dx is not None:
            x, y = context.value(self.inputs[0]), context.value(self.output)
            dy = context.gradient(self.output)
            kernels.activation_backward(
                x, y, dy, self.kind, slope=self.slope, dx=dx, backend=context.backend
            )


@dataclass(frozen=True)
class Add(Record):
    """Residual addition of two values of one shape."""

    @property
    def remembers(self) -> tuple[int, ...]:
        """None."""
        return ()

    def forward(self, context: ExecutionContext) -> None:
        """`y = a + b`."""
        a, b = (context.value(v).flatten(1) for v in self.inputs)
        kernels.mix(a, b, out=context.value(self.output).flatten(1), backend=context.backend)

    def backward(self, context: ExecutionContext) -> None:
        """`da = db = dy`."""
        for v in self.inputs:
            context.pass_on(self.output, v)


@dataclass(frozen=True)
class Scale(Record):
    """A value times a number."""

    factor: float

    @property
    def remembers(self) -> tuple[int, ...]:
        """None."""
        return ()

    def _times(self, context: ExecutionContext, x: Tensor, out: Tensor) -> None:
        x, out = x.flatten(1), out.flatten(1)
        kernels.mix(x, x, self.factor, 0.0, out=out, backend=context.backend)

    def forward(self, context: ExecutionContext) -> None:
        """`y = c x`."""
        self._times(context, context.value(self.inputs[0]), context.value(self.output))

    def backward(self, context: ExecutionContext) -> None:
        """`dx = c dy`."""
        dx = context.collect(self.inputs[0])
        if dx is not None:
            self._times(context, context.gradient(self.output), dx)


@dataclass(frozen=True)
class Dropout(Record):
    """Elements, or whole planes of them, dropped by each client's own random numbers.

    span   neighbours dropped together
    layer  which of the program's dropouts it is: part of the counter its numbers come from
    """

    p: float
    span: int = 1
    layer: int = 0

    @property
    def remembers(self) -> tuple[int, ...]:
        """None: the mask is made anew."""
        return ()

    @property
    def repeats(self) -> bool:
        """Never: every step has numbers of its own."""
        return False

    def _drop(self, context: ExecutionContext, x: Tensor, out: Tensor) -> None:
        kernels.dropout(
            x, self.p, context.seeds, self.layer, span=self.span, out=out, backend=context.backend
        )

    def forward(self, context: ExecutionContext) -> None:
        """`y = x * mask / (1 - p)`."""
        self._drop(context, context.value(self.inputs[0]), context.value(self.output))

    def backward(self, context: ExecutionContext) -> None:
        """The same mask, made anew."""
        dx = context.collect(self.inputs[0])
        if dx is not None:
            self._drop(context, context.gradient(self.output), dx)


@dataclass(frozen=True)
class LogSoftmax(Record):
    """Log-probabilities over the last dimension."""

    def forward(self, context: ExecutionContext) -> None:
        """`y = x - log sum exp(x)`."""
        x, y = context.value(self.inputs[0]), context.value(self.output)
        kernels.log_softmax(x, out=y, backend=context.backend)

    def backward(self, context: ExecutionContext) -> None:
        """`dx = dy - exp(y) sum dy`."""
        dx = context.collect(self.inputs[0])
        if dx is not None:
            y, dy = context.value(self.output), context.gradient(self.output)
            kernels.log_softmax_backward(y, dy, dx=dx, backend=context.backend)
