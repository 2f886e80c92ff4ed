"""`torch.ops.fedfast`: the operations on whole models, known to `torch.library`.

    import fedfast.torch_ops                       # registers them
    ahead = torch.ops.fedfast.perturb(w, [g], 0.05)

They run what `fedfast.kernels` runs, chosen by the same registry of backends, and can be part of a
function compiled with `fullgraph=True`: shapes are known without running them, what they write is
declared. They are not differentiable, and say so. Every schema is made from the operation's one
declaration; `schemas()` lists them, docs/torch-ops.md shows them.
The engine does not call operations through torch's dispatcher, which takes some microseconds.
"""

from __future__ import annotations

import torch

from .. import kernels
from ..kernels import Segments
from ..kernels.declaration import OPERATIONS
from .calls import adapted
from .fake import fake
from .schema import overloads

__all__ = ["schemas", "table"]

_library = torch.library.Library("fedfast", "FRAGMENT")
_SCHEMAS: dict[str, str] = {}


def schemas() -> dict[str, str]:
    """Name of every overload -> its schema, as `torch.library` has it."""
    return dict(_SCHEMAS)


def table(segments: Segments) -> dict[str, list[int] | list[bool]]:
    """A segment table as these operations take it: `stats(x, **table(segments))`."""
    spans = segments.spans
    return {
        "offset": [start for start, _ in spans],
        "length": [stop - start for start, stop in spans],
        "is_weight": list(segments.flags),
    }


def _register(name: str) -> None:
    operation, function = OPERATIONS[name], getattr(kernels, name)
    checks = fake(operation, function)
    for overload in overloads(operation, function):
        _library.define(overload.name + overload.schema, tags=(torch.Tag.pt2_compliant_tag,))
        kernel = adapted(operation, overload, function, traced=False)
        _library.impl(overload.name, kernel, "CompositeExplicitAutograd")
        traced = adapted(operation, overload, checks, traced=True)
        torch.library.register_fake(f"fedfast::{overload.name}", traced, lib=_library)
        _SCHEMAS[overload.name] = overload.schema


for _name in kernels.OPERATIONS:
    _register(_name)
