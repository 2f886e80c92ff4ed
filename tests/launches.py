"""Launches every form of every operation on a GPU that is not there; see `fake_gpu.py`.

Run as a script without TRITON_INTERPRET, under any Triton: prints one JSON row per launch, then
the kernels of the package that nothing launched. Tests are content with the first stage of
compiling (`aot.py` takes the forms that matter through all of them); `whole` takes all to the end.

    python tests/launches.py [whole]
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from tempfile import TemporaryDirectory
from typing import Any

import aot
import launch_forms
import launch_image_forms
import launch_layer_forms
import torch
from launch_forms import Make

FORMS = (*launch_forms.FORMS, *launch_layer_forms.FORMS, *launch_image_forms.FORMS)
MAKES = {
    "float32": Make(torch.float32),
    "float64": Make(torch.float64),
    "ones": Make(torch.float32, ones=True),
    "far": Make(torch.float32, far=True),
}
_LAUNCHES: list[tuple[str, aot.Launch]] = []  # inherited by the two worker processes


def jitted() -> dict[str, Any]:
    """Every function of the package that Triton compiles, by module and name."""
    ours = {n: m for n, m in sys.modules.items() if n.startswith("fedfast.kernels.")}
    found = (v for module in ours.values() for v in vars(module).values())
    return {f"{f.fn.__module__}.{f.fn.__name__}": f for f in found if hasattr(f, "arg_names")}


def called(function: Any) -> Iterator[Any]:
    """What a compiled function calls by name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function.fn)))
    calls = (n.func for n in ast.walk(tree) if isinstance(n, ast.Call))
    for name in (c.id for c in calls if isinstance(c, ast.Name)):
        yield function.fn.__globals__.get(name)


def kernels() -> set[str]:
    """Those that no other one calls: they have to be launched."""
    every = jitted()
    helpers = {id(f) for function in every.values() for f in called(function)}
    return {name for name, f in every.items() if id(f) not in helpers}


def recorded() -> Iterator[tuple[str, aot.Launch]]:
    """Everything that is launched, each form named by how its operands are made."""
    for name, make in MAKES.items():
        for forms in FORMS:
            for launch in aot.launches(make.dtype, True, forms(make)):
                yield name, launch


def _launch(index: int, whole: bool) -> dict[str, Any]:
    made, launch = _LAUNCHES[index]
    binary = aot.launched(launch, 90, whole)
    kinds = list(types(binary.src.signature.values()))
    return dict(
        make=made,
        operation=launch.form.split()[0],
        form=launch.form,
        kernel=f"{launch.kernel.fn.__module__}.{launch.name}",
        wide="i64" in kinds,
        variable=variable(launch),
    )


def variable(launch: aot.Launch) -> list[str]:
    """What a launch names, and Triton's binder takes for an argument like others.

    Many a kernel compiles without one of its `tl.constexpr`, to slower code.
    """
    constants = {p.name: p.is_constexpr for p in launch.kernel.params}
    return [name for name in launch.meta if not constants.get(name, True)]


def types(signature: Iterable[Any]) -> Iterator[str]:
    """Types of a signature, tuples taken apart."""
    for kind in signature:
        if isinstance(kind, tuple):
            yield from types(kind)
        else:
            yield kind


def main(whole: bool) -> None:
    """Launch everything, and compare it with what there is."""
    _LAUNCHES.extend(recorded())
    places = range(len(_LAUNCHES))
    used = set()
    # Triton removes a folder for each of its thousands of files: milliseconds each on a disk.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        TemporaryDirectory(dir=memory) as folder,
        ProcessPoolExecutor(2, get_context("fork")) as pool,
    ):
        if not whole:  # Triton's own cache may not tell a first stage from a whole program
            os.environ["TRITON_CACHE_DIR"] = folder
        for row in pool.map(_launch, places, [whole] * len(places), chunksize=16):
            used.add(row["kernel"])
            print(json.dumps(row), flush=True)
    print(json.dumps(dict(missing=sorted(kernels() - used), unknown=sorted(used - kernels()))))


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET"):
        raise SystemExit("TRITON_INTERPRET must not be set here")
    main("whole" in sys.argv[1:])
