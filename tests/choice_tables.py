"""Tables of choices for models of the tests, by names of candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from fedfast.kernels import choices_file, registry
from fedfast.kernels.choices import PARTS, Row, Shape, Table
from torch import Tensor, nn

from fedfast.layout import FlatLayout
from fedfast.programs import trace
from fedfast.programs.choices import shape_of
from fedfast.programs.products import ProductLayer

CUDA = torch.device("cuda", 0)


def shapes_of(module: nn.Module, x: Tensor, width: int) -> Iterator[Shape]:
    """Of each product of the model, for batches of `width`; x: `[2, ...]`."""
    program, reason = trace(module, x)
    assert program is not None, reason
    layout = FlatLayout.of(module)
    for record in program.records:
        if isinstance(record, ProductLayer):
            yield shape_of(record, program, layout, width)


def table_of(
    shapes: Iterator[Shape], pick: Callable[[Shape, str], str], precision: str = "tf32x3"
) -> Table:
    """For the CUDA device at hand, a row for each shape and part; pick: its candidate."""
    machine = registry.machine(CUDA)
    rows = [
        Row(*machine, precision, part, shape, pick(shape, part), (1, 99), 2.0)
        for shape in dict.fromkeys(shapes)
        for part in PARTS
    ]
    return Table(rows)


def inject(monkeypatch: pytest.MonkeyPatch, table: Table) -> None:
    """In the place of the repository's."""
    monkeypatch.setattr(choices_file, "shipped", lambda: table)
