"""Functions written as source and compiled once, as `dataclasses` does."""

from __future__ import annotations

import linecache
from types import FunctionType


def compiled(name: str, source: str, scope: dict[str, object]) -> FunctionType:
    """The function of that name that `source` defines; tracebacks show its lines."""
    file = f"<fedfast.kernels {name} {len(linecache.cache)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), scope)
    made = scope[name]
    assert isinstance(made, FunctionType)
    return made
