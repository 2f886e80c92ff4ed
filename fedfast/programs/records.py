"""Layer records: what one layer reads, what it writes, and its forward and backward operations.

A record sees its tensors through an `ExecutionContext`: activations `[K, B, ...]` by value number,
parameters and their destinations `[K, ...]` by name. Values are numbered in the order they are
computed; 0 is the input. `gradient(v)` is what later layers have collected for value v.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..kernels._args import Coefficient

Arguments = dict[str, Any]  # of an operation, by keyword


@dataclass(frozen=True)
class Sink:
    """Where a parameter's gradient goes: `out = beta * base + alpha * gradient`, all `[K, ...]`.

    Plain gradients have alpha 1, beta 0. A folded SGD step has alpha = -lr, beta = 1 - lr * decay,
    base the weights the step starts from, out the weights after it. An addend corrects the
    gradient; layers that cannot add it leave that to `addends.Addends`.
    """

    out: Tensor
    alpha: Coefficient = 1.0
    beta: Coefficient = 0.0
    base: Tensor | None = None
    addend: Tensor | None = None


@dataclass(frozen=True)
class Waiting:
    """Where a dense layer whose weight gradient is formed later leaves that gradient's squares."""

    gram: Tensor  # [K, B, B], scratch
    squares: Tensor  # [K] float64


@dataclass(frozen=True)
class Norms:
    """What a dense layer that waits is told of the others, where its gradient g has an addend a.

    known  `[K, n]` float64 each: |g|^2 of the layers that wait, |g + a|^2 of the others
    apart  `[K, n]` float64: |a|^2 of the layers that wait
    limit  up to which norm of g + a nobody wants to know it
    out    `[K]` float64, receives the layer's |g + a|^2; 0 where that cannot be above the limit
    """

    known: list[Tensor]
    apart: Tensor
    limit: float
    out: Tensor


@dataclass(frozen=True)
class Factors:
    """What a dense layer keeps of the first pass.

    x        `[K, B, I]`, d `[K, B, O]`: its gradient is `d^T x`
    gram     `[K, B, B]`, `x x^T + ones`
    before   `[K, B, O]`, its output before the activation, where x is the same in both passes
    squares  `[K]` float64, the squared norm of its gradient
    scale    `[K]`, s
    ones     1 if the bias moves with the weights, else 0
    unit     `[K, B, 1]`, ones: the input of a bias whose gradient is written; None where it is not
    """

    x: Tensor
    d: Tensor
    gram: Tensor
    before: Tensor | None
    squares: Tensor
    scale: Tensor
    ones: float
    unit: Tensor | None


class ExecutionContext(Protocol):
    """What a record asks for while a batch runs; see `context.BatchContext`."""

    backend: str
    precision: str  # of products, see `kernels.linear`
    count: Tensor  # [K] samples of each client's batch

    @property
    def seeds(self) -> Tensor:
        """A random seed of each client for this batch, `[K]` int64."""

    def value(self, v: int) -> Tensor:
        """Value v, `[K, B, ...]`."""

    def saved(self, key: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A buffer `[K, ...]` that lasts from a record's forward to its backward."""

    def parameter(self, name: str) -> Tensor:
        """A parameter of all clients, `[K, ...]`; a constant, with stride 0 over K."""

    def buffer(self, name: str) -> Tensor | None:
        """A buffer of all clients, `[K, ...]`, to be updated; None where it must stay."""

    def sink(self, name: str) -> Sink | None:
        """Where the gradient of a parameter goes; None for a frozen one."""

    def squares(self, v: int) -> Tensor | None:
        """Where the layer with output v writes the squares of its gradients `[K]`, if it must."""

    def waiting(self, v: int) -> Waiting | None:
        """What the dense layer with output v leaves if its product waits for a norm."""

    def factors(self, record: Record) -> Factors:
        """What a dense layer keeps, in SAM's passes; ValueError outside of them."""

    def needs(self, v: int) -> bool:
        """Whether the gradient of value v leads to a parameter."""

    def gradient(self, v: int) -> Tensor:
        """The collected gradient of value v, `[K, B, ...]`."""

    def collect(self, v: int) -> Tensor | None:
        """A buffer to write a contribution to the gradient of v into; None if nobody needs it."""

    def pass_on(self, y: int, v: int) -> None:
        """The gradient of y, which is complete, is a contribution to that of v."""


@dataclass(frozen=True)
class Record(ABC):
    """A layer: `name` in the module, `inputs` and `output` value numbers, `weights` it reads.

    frozen  which of the weights are not trained: all clients share one copy
    """

    name: str
    inputs: tuple[int, ...]
    output: int
    frozen: frozenset[str] = field(default=frozenset(), kw_only=True)

    @property
    def repeats(self) -> bool:
        """Whether a plan may repeat it: it only calls operations, and draws nothing."""
        return True

    @property
    def overwrites(self) -> bool:
        """Whether `backward` may leave something else in the gradient of the output."""
        return False

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the parameters the layer reads, trained or frozen."""
        return ()

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the trained parameters the layer reads."""
        return tuple(name for name in self.weights if name not in self.frozen)

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the tensors the layer reads that no step changes."""
        return tuple(name for name in self.weights if name in self.frozen)

    @property
    def remembers(self) -> tuple[int, ...]:
        """Values that `backward` reads."""
        return (*self.inputs, self.output)

    @property
    def buffers(self) -> tuple[str, ...]:
        """Names of the buffers the layer updates."""
        return ()

    def saved_elements(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Elements of each sample that it saves from forward to backward, beside its value."""
        return 0

    def scratch_elements(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Elements of each sample that its operations need for a while on a GPU."""
        return 0

    @abstractmethod
    def forward(self, context: ExecutionContext) -> None:
        """Write `context.value(self.output)`."""

    @abstractmethod
    def backward(self, context: ExecutionContext) -> None:
        """From the gradient of the output: parameters' sinks, then the inputs' gradients."""


def sink_arguments(context: ExecutionContext, adds: bool = False, **names: str | None) -> Arguments:
    """The arguments of a backward operation for its parameters' gradients.

    adds   whether it takes addends
    names  the operation's name for each parameter, and the parameter's name or None
    """
    sinks = {part: None if name is None else context.sink(name) for part, name in names.items()}
    held = [sink for sink in sinks.values() if sink is not None]
    given = held[0] if held else Sink(torch.empty(0))
    if any(sink.beta is not given.beta for sink in held):
        # A tied weight adds to its other layer's gradient, its bias starts anew: from zero, then.
        given = max(held, key=lambda sink: float(sink.beta))
        for sink in held:
            if sink.beta != given.beta:
                sink.out.zero_()
    outs = {f"d{part}": None if sink is None else sink.out for part, sink in sinks.items()}
    bases = {f"base_{part}": None if sink is None else sink.base for part, sink in sinks.items()}
    found = outs | bases | dict(alpha=given.alpha, beta=given.beta)
    if adds and given.addend is not None:
        found["gamma"] = given.alpha
        found |= {f"add_{part}": sink.addend for part, sink in sinks.items() if sink is not None}
    return found


@dataclass(frozen=True)
class Reshape(Record):
    """The same memory under another shape: flatten, view, identity."""

    @property
    def remembers(self) -> tuple[int, ...]:
        """None."""
        return ()

    def forward(self, context: ExecutionContext) -> None:
        """Nothing: the output value is a view of the input value."""

    def backward(self, context: ExecutionContext) -> None:
        """Nothing: both gradients are one memory too."""
