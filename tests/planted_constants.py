"""Kernels that lack one `tl.constexpr`, launched like those of the package.

Run as a script without TRITON_INTERPRET: prints a JSON row for every kernel and each of its
constants, which Triton's binder is made to take for an argument like others.

    python tests/planted_constants.py
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Any

import aot
import launches
import triton

_PLANTED: list[tuple[aot.Launch, str]] = []  # inherited by the two worker processes


def without(kernel: Any, constant: str) -> Any:
    """The kernel, its parameter no constant any more."""
    own = kernel.fn
    made = FunctionType(own.__code__, own.__globals__, own.__name__, own.__defaults__)
    made.__module__, made.__qualname__ = own.__module__, own.__qualname__
    made.__annotations__ = own.__annotations__ | {constant: "tl.tensor"}
    return triton.jit(made, do_not_specialize=kernel.do_not_specialize)


def _launch(index: int) -> dict[str, Any]:
    """refused: whether it does not compile; variable: what `launches.variable` finds."""
    launch, constant = _PLANTED[index]
    planted = replace(launch, kernel=without(launch.kernel, constant))
    row = dict(kernel=launch.name, constant=constant, variable=launches.variable(planted))
    try:
        aot.launched(planted, 90, whole=False)
    except RuntimeError:
        return row | dict(refused=True)
    return row | dict(refused=False)


def main() -> None:
    """The first launch of every kernel, without each of its constants."""
    make = launches.MAKES["float32"]
    every = (
        each for forms in launches.FORMS for each in aot.launches(make.dtype, True, forms(make))
    )
    first: dict[str, aot.Launch] = {}
    for launch in every:
        first.setdefault(f"{launch.kernel.fn.__module__}.{launch.name}", launch)
    for launch in first.values():
        _PLANTED.extend((launch, p.name) for p in launch.kernel.params if p.is_constexpr)
    with (
        TemporaryDirectory() as folder,
        ProcessPoolExecutor(2, get_context("fork")) as pool,
    ):
        os.environ["TRITON_CACHE_DIR"] = folder  # see `launches.main`
        for row in pool.map(_launch, range(len(_PLANTED)), chunksize=8):
            print(json.dumps(row))


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET"):
        raise SystemExit("TRITON_INTERPRET must not be set here")
    main()
