"""Records of the layers that normalise."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
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
    def weights(self) -> tuple[str, ...]:
        """Weight and bias, if it has them."""
        return tuple(name for name in (self.weight, self.bias) if name is not None)

    @property
    def remembers(self) -> tuple[int, ...]:
        """The input."""
        return self.inputs

    def _affine(self, context: ExecutionContext) -> tuple[Tensor | None, Tensor | None]:
        weight, bias = (
            None if name is None else context.parameter(name) for name in (self.weight, self.bias)
        )
        return weight, bias

    def _statistics(self, context: ExecutionContext, x: Tensor) -> Arguments:
        return {
            part: context.saved(f"{self.name}.{part}", self._shape(x), x.dtype)
            for part in ("mean", "rstd")
        }

    @abstractmethod
    def _shape(self, x: Tensor) -> tuple[int, ...]:
        """Of the statistics."""

    def _normalize(
        self,
        operation: Callable[..., object],
        context: ExecutionContext,
        *over: object,
        **more: object,
    ) -> None:
        """Keeps mean and 1 / standard deviation; `over`: what the operation takes after x."""
        x, y = context.value(self.inputs[0]), context.value(self.output)
        statistics, affine = self._statistics(context, x), self._affine(context)
        own = dict(eps=self.eps, out=y, backend=context.backend)
        operation(x, *over, *affine, **own, **statistics, **more)

    def _gradients(
        self,
        operation: Callable[..., object],
        context: ExecutionContext,
        *over: object,
        **more: object,
    ) -> None:
        """dx, then the affine part."""
        x, dy = context.value(self.inputs[0]), context.gradient(self.output)
        statistics, (weight, _) = self._statistics(context, x), self._affine(context)
        dx = context.collect(self.inputs[0])
        sinks = sink_arguments(context, weight=self.weight, bias=self.bias)
        own = dict(dx=dx, backend=context.backend)
        operation(x, *over, weight, dy, **own, **statistics, **sinks, **more)


@dataclass(frozen=True)
class GroupNorm(Norm):
    """Each sample's groups of channels by their own statistics."""

    groups: int

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        return (*x.shape[:2], self.groups)

    def forward(self, context: ExecutionContext) -> None:
        """See `Norm`."""
        self._normalize(kernels.group_norm, context, self.groups)

    def backward(self, context: ExecutionContext) -> None:
        """See `Norm`."""
        self._gradients(kernels.group_norm_backward, context, self.groups)


@dataclass(frozen=True)
class LayerNorm(Norm):
    """Each row over its last dimensions."""

    shape: tuple[int, ...]

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        rows = x.shape[1:].numel()
        for side in self.shape:
            rows //= side
        return (x.shape[0], rows)

    def forward(self, context: ExecutionContext) -> None:
        """See `Norm`."""
        self._normalize(kernels.layer_norm, context, self.shape)

    def backward(self, context: ExecutionContext) -> None:
        """See `Norm`."""
        self._gradients(kernels.layer_norm_backward, context, self.shape)


@dataclass(frozen=True)
class BatchNorm(Norm):
    """Channels by the statistics of a client's own batch; running statistics move in the row.

    training  whether that is so; else by the running statistics, which are constants then
    """

    running: tuple[str, str] | None
    momentum: float
    training: bool

    @property
    def constants(self) -> tuple[str, ...]:
        """What is frozen, and running statistics that nobody moves."""
        still = self.running if self.running is not None and not self.training else ()
        return (*super().constants, *still)

    @property
    def buffers(self) -> tuple[str, ...]:
        """Running mean and variance, where they move."""
        return self.running if self.running is not None and self.training else ()

    @property
    def counter(self) -> str:
        """The name of the counter beside the statistics, "" where there are none."""
        if not self.buffers:
            return ""
        return self.buffers[0].removesuffix("running_mean") + "num_batches_tracked"

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        return (x.shape[0], x.shape[2])

    def _running(self, context: ExecutionContext) -> tuple[Tensor | None, Tensor | None]:
        """Running mean and variance `[K, C]`; of constants, which operations may write, a copy."""
        if self.running is None:
            return None, None
        if self.training:
            mean, var = map(context.buffer, self.running)
            return mean, var
        given = map(context.parameter, self.running)
        mean, var = (
            context.saved(f"{self.name}.running{i}", t.shape, t.dtype).copy_(t)
            for i, t in enumerate(given)
        )
        return mean, var

    def forward(self, context: ExecutionContext) -> None:
        """Only a client's real samples enter its statistics."""
        mean, var = self._running(context)
        self._normalize(
            kernels.batch_norm,
            context,
            running_mean=mean,
            running_var=var,
            count=context.count,
            training=self.training,
            momentum=self.momentum,
        )

    def backward(self, context: ExecutionContext) -> None:
        """See `Norm`."""
        how = dict(count=context.count, training=self.training)
        self._gradients(kernels.batch_norm_backward, context, **how)
