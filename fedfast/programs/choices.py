"""Which library forms the products of a program's layers: asked of the table once, when it is made.

On CUDA under `backend="auto"`; a backend that is named is the one that runs. See
`kernels/choices.py`.
"""

from __future__ import annotations

from dataclasses import replace

from ..kernels import choices_file, registry
from ..kernels.choices import Shape, precision_of
from ..layout import FlatLayout
from .products import Conv, ConvPool, ProductLayer
from .program import BufferSpec, Program
from .records import Record


def chosen(
    program: Program, layout: FlatLayout, spec: BufferSpec, backend: str, precision: str
) -> Program:
    """The program, each of its products with the table's choice."""
    table = choices_file.shipped()
    if backend != "auto" or spec.device.type != "cuda" or not table:
        return program
    machine, kind = registry.machine(spec.device), precision_of(precision, layout.dtype)

    def with_choice(record: Record) -> Record:
        if not isinstance(record, ProductLayer):
            return record
        found = table.choice(machine, kind, shape_of(record, program, layout, spec.width))
        return replace(record, choice=found)

    return replace(program, records=tuple(map(with_choice, program.records)))


def shape_of(record: ProductLayer, program: Program, layout: FlatLayout, width: int) -> Shape:
    """A layer as the table names it; width: samples of a batch."""
    inputs, outputs = program.shapes[record.inputs[0]], program.shapes[record.output]
    if not isinstance(record, Conv):
        return Shape(width, inputs, outputs[-1])
    window = record.stride, record.padding, record.dilation, record.groups
    pool = record.window if isinstance(record, ConvPool) else ()
    return Shape(width, inputs, outputs[0], _taps(record, program, layout), *window, pool)


def _taps(record: Conv, program: Program, layout: FlatLayout) -> tuple[int, ...]:
    constant = program.constants.get(record.weight)
    if constant is not None:
        return tuple(constant.shape[2:])
    held = layout.aliases.get(record.weight, record.weight)
    return tuple(next(slot.shape[2:] for slot in layout.slots if slot.name == held))


def products_of(program: Program) -> dict[str, str]:
    """By layer, what forms its products."""
    return {r.name: str(r.choice) for r in program.records if isinstance(r, ProductLayer)}
