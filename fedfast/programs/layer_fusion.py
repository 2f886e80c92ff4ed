"""Which layers become one record, and the numbers that dropouts get."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import fields, replace

from .elementwise import Activation, Dropout
from .pooling import Pool
from .products import Conv, ConvPool, ProductLayer
from .records import Record

FUSED = ("relu", "tanh")


def numbered(records: Sequence[Record]) -> list[Record]:
    """Dropouts count from 0 in the order they run, so that each draws its own numbers."""
    layers = itertools.count()
    return [replace(r, layer=next(layers)) if isinstance(r, Dropout) else r for r in records]


def fused(records: Sequence[Record]) -> list[Record]:
    """Activations and pooling move into the layer before them if nothing else reads its value."""
    readers: dict[int, int] = {}
    for record in records:
        for v in record.inputs:
            readers[v] = readers.get(v, 0) + 1
    merged: list[Record] = []
    for record in records:
        last = merged[-1] if merged else None
        own = last is not None and last.output == record.inputs[0] and readers[last.output] == 1
        both = _merged(last, record) if own else None
        if both is None:
            merged.append(record)
        else:
            merged[-1] = both
    return merged


def _merged(last: Record | None, record: Record) -> Record | None:
    """One record for both, None where there is none.

    Of a pooled convolution's activations only ReLU: the largest element before it is the largest
    after it to the bit, and rounding makes no two equal that were not.
    """
    if (
        isinstance(record, Activation)
        and isinstance(last, ProductLayer)
        and last.activation is None
    ):
        if record.kind in (("relu",) if isinstance(last, ConvPool) else FUSED):
            return replace(last, output=record.output, activation=record.kind)
    if isinstance(record, Pool) and type(last) is Conv and record.apart:
        own = {f.name: getattr(last, f.name) for f in fields(last)} | dict(output=record.output)
        return ConvPool(**own, window=record.kernel, convolved=last.output)
    return None
