"""Programs whose activations are records of their own: products are linear in each operand then.

What a fused activation saves is small beside the products that second derivatives take.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from .. import kernels
from .elementwise import Activation, Add
from .products import ProductLayer
from .program import Program
from .records import ExecutionContext, Record, Reshape


@dataclass(frozen=True)
class Rectified(Reshape):
    """ReLU in the memory of its input, which nobody else reads; gradients likewise."""

    @property
    def remembers(self) -> tuple[int, ...]:
        """The output."""
        return (self.output,)

    def forward(self, context: ExecutionContext) -> None:
        """`x = max(x, 0)`."""
        x = context.value(self.output)
        kernels.activation(x, "relu", out=x, backend=context.backend)

    def backward(self, context: ExecutionContext) -> None:
        """`dx = dx where x > 0`."""
        self.mask(context, context.value(self.output))

    def mask(self, context: ExecutionContext, y: Tensor) -> None:
        """The gradient of the input where y > 0, else 0."""
        self.masked(y, context.gradient(self.output), context.backend)

    @staticmethod
    def masked(y: Tensor, t: Tensor, backend: str) -> None:
        """t where y > 0, else 0, in place."""
        kernels.activation_backward(y, y, t, "relu", dx=t, backend=backend)


def apart(program: Program) -> Program:
    """The same program, no activation within a product."""
    records: list[Record] = []
    shapes = list(program.shapes)
    added = {v for r in program.records if isinstance(r, Add) for v in r.inputs}
    for record in program.records:
        if not isinstance(record, ProductLayer) or record.activation is None:
            records.append(record)
            continue
        shapes.append(program.shapes[record.output])
        before = len(shapes) - 1
        records.append(replace(record, output=before, activation=None))
        place = f"{record.name}.activation", (before,), record.output
        # The gradient of what is added up lies in memory that its other parts read too.
        alone = record.activation == "relu" and not _leads(program, record.output, added)
        records.append(Rectified(*place) if alone else Activation(*place, kind=record.activation))
    return replace(program, records=tuple(records), shapes=tuple(shapes))


def _leads(program: Program, v: int, values: set[int]) -> bool:
    """Whether v or another shape of it is one of `values`."""
    return any(program.root(other) == program.root(v) for other in values)
