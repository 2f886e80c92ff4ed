"""Records of the layers that normalise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .. import kernels
from .records import Arguments, ExecutionContext, Record, sink_arguments


@dataclass(frozen=True)
class Norm(Record):
    """What all norms share: an optional affine part and the statistics their backward reads."""

    weight: str | None
    bias: str | None
    eps: float

    @property
    def parameters(self) -> tuple[str, ...]:
        """Weight and bias, if it has them."""
        return tuple(name for name in (self.weight, self.bias) if name is not None)

    def _affine(self, context: ExecutionContext) -> tuple[Tensor | None, Tensor | None]:
        weight, bias = (
            None if name is None else context.parameter(name) for name in (self.weight, self.bias)
        )
        return weight, bias

    def _statistics(self, context: ExecutionContext, shape: tuple[int, ...]) -> Arguments:
        dtype = context.value(self.inputs[0]).dtype
        return {
            part: context.saved(f"{self.name}.{part}", shape, dtype) for part in ("mean", "rstd")
        }

    def _sinks(self, context: ExecutionContext) -> Arguments:
        return sink_arguments(context, weight=self.weight, bias=self.bias)


@dataclass(frozen=True)
class GroupNorm(Norm):
    """Each sample's groups of channels by their own statistics."""

    groups: int

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        return (*x.shape[:2], self.groups)

    def forward(self, context: ExecutionContext) -> None:
        """Keeps mean and 1 / standard deviation."""
        x, y = context.value(self.inputs[0]), context.value(self.output)
        statistics = self._statistics(context, self._shape(x))
        affine = self._affine(context)
        kernels.group_norm(
            x, self.groups, *affine, eps=self.eps, out=y, backend=context.backend, **statistics
        )

    def backward(self, context: ExecutionContext) -> None:
        """dx, then the affine part."""
        x, dy = context.value(self.inputs[0]), context.gradient(self.output)
        statistics, weight = self._statistics(context, self._shape(x)), self._affine(context)[0]
        dx = context.collect(self.inputs[0])
        kernels.group_norm_backward(
            x,
            self.groups,
            weight,
            dy,
            dx=dx,
            backend=context.backend,
            **statistics,
            **self._sinks(context),
        )


@dataclass(frozen=True)
class LayerNorm(Norm):
    """Each row over its last dimensions."""

    shape: tuple[int, ...]

    def _rows(self, x: Tensor) -> tuple[int, ...]:
        rows = x.shape[1:].numel()
        for side in self.shape:
            rows //= side
        return (x.shape[0], rows)

    def forward(self, context: ExecutionContext) -> None:
        """Keeps mean and 1 / standard deviation."""
        x, y = context.value(self.inputs[0]), context.value(self.output)
        statistics, affine = self._statistics(context, self._rows(x)), self._affine(context)
        kernels.layer_norm(
            x, self.shape, *affine, eps=self.eps, out=y, backend=context.backend, **statistics
        )

    def backward(self, context: ExecutionContext) -> None:
        """dx, then the affine part."""
        x, dy = context.value(self.inputs[0]), context.gradient(self.output)
        statistics, weight = self._statistics(context, self._rows(x)), self._affine(context)[0]
        dx = context.collect(self.inputs[0])
        kernels.layer_norm_backward(
            x,
            self.shape,
            weight,
            dy,
            dx=dx,
            backend=context.backend,
            **statistics,
            **self._sinks(context),
        )


@dataclass(frozen=True)
class BatchNorm(Norm):
    """Channels by the statistics of a client's own batch; running statistics move in the row."""

    running: tuple[str, str] | None
    momentum: float

    @property
    def buffers(self) -> tuple[str, ...]:
        """Running mean and variance."""
        return () if self.running is None else self.running

    @property
    def counter(self) -> str:
        """The name of the counter beside the statistics, "" where there are none."""
        if self.running is None:
            return ""
        return self.running[0].removesuffix("running_mean") + "num_batches_tracked"

    def forward(self, context: ExecutionContext) -> None:
        """Only a client's real samples enter its statistics."""
        x, y = context.value(self.inputs[0]), context.value(self.output)
        statistics = self._statistics(context, (x.shape[0], x.shape[2]))
        mean, var = (None, None) if self.running is None else map(context.buffer, self.running)
        kernels.batch_norm(
            x,
            *self._affine(context),
            running_mean=mean,
            running_var=var,
            count=context.count,
            momentum=self.momentum,
            eps=self.eps,
            out=y,
            backend=context.backend,
            **statistics,
        )

    def backward(self, context: ExecutionContext) -> None:
        """dx, then the affine part."""
        x, dy = context.value(self.inputs[0]), context.gradient(self.output)
        statistics = self._statistics(context, (x.shape[0], x.shape[2]))
        dx = context.collect(self.inputs[0])
        kernels.batch_norm_backward(
            x,
            self._affine(context)[0],
            dy,
            count=context.count,
            dx=dx,
            backend=context.backend,
            **statistics,
            **self._sinks(context),
        )
