"""Dense layers in SAM's two passes, without a perturbed copy of their weights; see `sam.py`."""

from __future__ import annotations

from dataclasses import dataclass

from .. import kernels
from .products import Linear
from .records import ExecutionContext


@dataclass(frozen=True)
class FirstPass(Linear):
    """A dense layer in the first pass: factors and the norm instead of a gradient."""

    def forward(self, context: ExecutionContext) -> None:
        """As ever; a layer that reads the samples also keeps what comes before its activation."""
        before = context.factors(self).before
        if before is None or self.activation is None:
            return super().forward(context)
        x, weight, bias = self._tensors(context)
        kernels.linear(x, weight, bias, out=before, **self._how(context, self.choice.forward))
        out = context.value(self.output)
        kernels.activation(before, self.activation, out=out, backend=context.backend)

    def backward(self, context: ExecutionContext) -> None:
        """dx, and the norm of a gradient that nobody writes."""
        x, weight, bias = self._tensors(context)
        out, d = context.value(self.output), context.gradient(self.output)
        dx, factors = context.collect(self.inputs[0]), context.factors(self)
        how = self._how(context, self.choice.data) | dict(activation=self.activation)
        kernels.linear_backward(x, weight, out, d, dx=dx, **how)
        gram, squares, how = factors.gram, factors.squares, self._how(context)
        kernels.ghost(x, d, ones=factors.ones, gram=gram, squares=squares, **how)
        if factors.unit is not None and self.bias is not None and bias is not None:
            sink = context.sink(self.bias)
            assert sink is not None  # of a frozen bias there is no unit
            column, db = bias[..., None], sink.out[..., None]
            kernels.linear_backward(factors.unit, column, out, d, dweight=db, **self._how(context))


@dataclass(frozen=True)
class SecondPass(Linear):
    """A dense layer in the second pass, at `W + s d^T x`."""

    def forward(self, context: ExecutionContext) -> None:
        """`act(x' W^T + b + s (x' x^T + 1) d)`; the product is known where x' is x."""
        x, weight, bias = self._tensors(context)
        out, factors = context.value(self.output), context.factors(self)
        if factors.before is None:
            kernels.linear(x, weight, bias, out=out, **self._how(context, self.choice.forward))
        kernels.lowrank(
            x,
            factors.x,
            factors.d,
            factors.scale,
            base=out if factors.before is None else factors.before,
            ones=factors.ones,
            gram=None if factors.before is None else factors.gram,
            activation=self.activation,
            out=out,
            **self._how(context),
        )

    def backward(self, context: ExecutionContext) -> None:
        """`dx = d' W + s (d' d^T) x`; the gradient as ever."""
        dx = self.descend(context)
        if dx is not None:
            d, factors = context.gradient(self.output), context.factors(self)
            given = d, factors.d, factors.x, factors.scale
            kernels.lowrank(*given, base=dx, out=dx, **self._how(context))
