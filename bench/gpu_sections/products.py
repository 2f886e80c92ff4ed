"""Products of the workloads' layers: their shapes, operands for K clients, and one part of a call.

A part is what the table of choices knows a row for: the forward pass, the gradient of the input,
or that of weight and bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch
from fedfast.kernels.choices import PARTS, Shape
from fedfast.kernels.library.blocks import ROW, rows
from torch import Tensor, nn
from workloads import BY_NAME

from fedfast import kernels
from fedfast.layout import FlatLayout
from fedfast.programs import trace
from fedfast.programs.choices import shape_of
from fedfast.programs.products import ProductLayer
from gpu_sections.campaign import Campaign

WORKLOADS = ("W1", "W2", "W3", "W4", "W5")
SIDES = ("taps", "stride", "padding", "dilation")


@dataclass(frozen=True)
class Layer:
    """A layer of a model.

    learns  whether its input's gradient is wanted
    """

    name: str
    shape: Shape
    biased: bool
    activation: str | None
    learns: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """Those that a step has."""
        return tuple(part for part in PARTS if part != "data" or self.learns)

    @property
    def numbers(self) -> int:
        """That one client's operands are."""
        s = self.shape
        return s.batch * (prod(s.inputs) + prod(self.outputs)) + prod(self.weight)

    @property
    def weight(self) -> tuple[int, ...]:
        """Its sides."""
        inputs = self.shape.inputs[0] // self.shape.groups
        return self.shape.outputs, inputs, *self.shape.taps

    @property
    def outputs(self) -> tuple[int, ...]:
        """Sides of a sample's result."""
        s = self.shape
        own = zip(s.inputs[1:], *(getattr(s, name) for name in SIDES), strict=True)
        sides = [(n + 2 * p - d * (k - 1) - 1) // t + 1 for n, k, t, p, d in own]
        return s.outputs, *(n // w for n, w in zip(sides, s.pool or (1, 1), strict=False))


def layers(campaign: Campaign) -> Iterator[Layer]:
    """Every product of the workloads, those of one shape once."""
    found: dict[Shape, Layer] = {}
    if campaign.rehearsal:
        models = [("tiny", _tiny(), torch.zeros(2, 2, 6, 6), 2)]
    else:
        works = [BY_NAME[name] for name in WORKLOADS]
        models = [(w.name, w.module(), torch.zeros(2, *w.shape), w.batch) for w in works]
    for name, module, x, width in models:
        for layer in _of_model(name, module, x, width):
            both = found.get(layer.shape, layer)
            found[layer.shape] = replace(both, learns=both.learns or layer.learns)
    yield from found.values()


def _tiny() -> nn.Module:
    """A layer of each operation."""
    convolved = nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2)
    return nn.Sequential(*convolved, nn.Flatten(), nn.Linear(12, 5))


def _of_model(name: str, module: nn.Module, x: Tensor, width: int) -> Iterator[Layer]:
    program, reason = trace(module, x)
    if program is None:
        raise ValueError(f"{name}: {reason}")
    layout = FlatLayout.of(module)
    for r in program.records:
        if isinstance(r, ProductLayer):
            shape, learns = shape_of(r, program, layout, width), r.inputs[0] in program.learning
            yield Layer(f"{name} {r.name}", shape, r.bias is not None, r.activation, learns)


class Operands:
    """Of K clients, in rows that go on behind them, as those of models do."""

    def __init__(self, layer: Layer, clients: int, device: torch.device) -> None:
        self.layer, s = layer, layer.shape

        def made(*shape: int) -> Tensor:
            like, length = torch.empty(0, device=device), prod(shape)
            whole = rows(like, clients, (length + ROW,)).normal_()
            return whole[:, :length].view(clients, *shape)

        self.x, self.dout = made(s.batch, *s.inputs), made(s.batch, *layer.outputs)
        self.weight = made(*layer.weight).mul_(prod(layer.weight[1:]) ** -0.5)
        self.bias = made(s.outputs) if layer.biased else None
        self.out, self.dx = torch.empty_like(self.dout), torch.empty_like(self.x)
        self.dweight, self.dbias = torch.empty_like(self.weight), made(s.outputs)
        self.tap = torch.empty_like(self.out, dtype=torch.uint8) if s.pool else None

    def of(self, clients: slice, copied: bool = False) -> Operands:
        """Those of some clients, in the same memory or in copies."""
        part = object.__new__(Operands)
        for name, value in vars(self).items():
            own = value[clients] if isinstance(value, Tensor) else value
            setattr(part, name, own.clone() if copied and isinstance(own, Tensor) else own)
        return part

    def double(self) -> Operands:
        """The same in float64."""
        wide = object.__new__(Operands)
        for name, value in vars(self).items():
            floats = isinstance(value, Tensor) and value.is_floating_point()
            setattr(wide, name, value.double() if floats else value)
        return wide

    def call(self, part: str, backend: str, precision: str) -> tuple[Tensor, ...]:
        """One part; what it has written. After "forward" the others find `out` as it left it."""
        s, how = self.layer.shape, self._how(backend, precision)
        if part == "forward":
            how |= dict(activation=self.layer.activation)
            getattr(kernels, s.operation)(self.x, self.weight, self.bias, out=self.out, **how)
            return (self.out,)
        own = None if self.bias is None else self.dbias
        sinks = dict(dx=self.dx) if part == "data" else dict(dweight=self.dweight, dbias=own)
        backward = getattr(kernels, f"{s.operation}_backward")
        backward(self.x, self.weight, self.out, dout=self.dout, **sinks, **how)
        return tuple(t for t in sinks.values() if t is not None)

    def _how(self, backend: str, precision: str) -> dict[str, object]:
        s, how = self.layer.shape, dict[str, object](backend=backend, precision=precision)
        if s.taps:
            how |= {name: getattr(s, name) for name in SIDES[1:]} | dict(groups=s.groups)
        return how | (dict(kernel=s.pool, tap=self.tap) if s.pool else {})
