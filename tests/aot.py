"""Compiles every Triton kernel ahead of time, exactly as the launchers would, with no GPU.

The launchers run on CPU tensors with `launch` replaced by a recorder; each recorded call is turned
into the signature and the specialisation that Triton derives at run time (pointers and integers
divisible by 16, ones and None as constants). Run as a script without TRITON_INTERPRET: prints one
JSON row per kernel, form and architecture.

    python tests/aot.py [80 90]
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import layer_forms
import torch

from fedfast.kernels import (
    Segments,
    Server,
    aggregate,
    gather,
    gram,
    mix,
    perturb,
    sensitivity,
    stats,
    step,
)

K = 3
ROW = 64 * 160, Segments.of([0, 5024, 5056], [5000, 10, 5000], [True, False, True])  # as in a run
ODD = ((33, Segments.of([0, 7, 17], [5, 10, 15])), (1, Segments.of([0, 1], [1, 0])))
FLOATS = {torch.float32: "fp32", torch.float64: "fp64", torch.int32: "i32"}
FLOATS |= {torch.int64: "i64", torch.uint8: "u8"}
Forms = Iterator[tuple[str, Callable[[], Any]]]


@dataclass
class Launch:
    """One recorded launch: the kernel, its arguments by name and the launch options."""

    form: str
    dtype: str
    aligned: bool
    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, Any]


def bank_forms(dtype: torch.dtype, size: int, segments: Segments) -> Forms:
    """(name, call) of every operation on banks in the forms that compile differently."""
    w, g, m = torch.zeros(3, K, size, dtype=dtype)
    shared, rho = torch.zeros(size, dtype=dtype), torch.ones(K, segments.count, dtype=dtype)
    call = dict(backend="triton")
    layers = dict(segments=segments, **call)
    yield "mix", partial(mix, w, shared, **call)
    yield "perturb sam", partial(perturb, w, g, 0.1, **call)
    yield "perturb known", partial(perturb, w, g, 0.1, norm=rho[:, 0], **call)
    yield "perturb eight", partial(perturb, shared, [g, shared] * 4, 0.1, **call)
    yield "perturb asam", partial(perturb, w, g, 0.1, adaptive=0.01, **layers)
    yield "perturb layers", partial(perturb, w, g, rho, **layers)
    yield "step sgd", partial(step, w, g, 0.1, **call)
    yield "step clip", partial(step, w, [g, shared], 0.1, clip_norm=1.0, **call)
    yield "step eight", partial(step, w, [g, shared] * 4, 0.1, w_ref=shared, clip_norm=1.0, **call)
    moment = dict(momentum=0.9, m=m, nesterov=True)
    yield "step nesterov", partial(step, w, g, 0.1, **moment, **call)
    yield "stats x", partial(stats, w, **layers)
    yield "stats xy", partial(stats, w, g, **layers)
    yield "stats four", partial(stats, w, g, x_ref=shared, y_ref=m, **layers)
    chunk = partial(aggregate, w, 0.5, shared, acc=torch.zeros(size, dtype=torch.float64), **call)
    yield "aggregate chunk", chunk
    yield "aggregate own base", partial(aggregate, w, 0.5, g, acc=chunk.keywords["acc"], **call)
    moments = dict(m=shared.clone(), v=shared.clone())
    for rule in ("average", "momentum", "yogi"):
        server = Server(rule)
        yield f"aggregate {rule}", partial(chunk, server=server, first=False, **moments)
    yield "gram rows", partial(gram, w, **call)
    yield "gram updates", partial(gram, w, shared, **layers)
    scores = partial(sensitivity, w, shared, segments, **call)
    yield "sensitivity", partial(scores, normalize=False)
    yield "sensitivity normalized", partial(scores, normalize=True)
    rows = torch.zeros(K, 2, dtype=torch.int64)
    yield "gather copy", partial(gather, w, rows, **call)
    side = 32 if size % 64 == 0 else 7
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    batch = dict(out=torch.zeros(K, 2, 3, side, side, dtype=dtype), **call)
    yield "gather images", partial(gather, images, rows, **batch)
    yield "gather crop", partial(gather, images, rows, flip=rows > 0, **batch)


def launches(dtype: torch.dtype, aligned: bool, forms: Forms) -> Iterator[Launch]:
    """What the launchers launch for each form, without running it."""
    triton_room = import_module("fedfast.kernels._triton")
    ours = [module for name, module in sys.modules.items() if name.startswith("fedfast.kernels.")]
    rooms: list[Any] = [module for module in ours if hasattr(module, "launch")]
    seen: list[tuple[Any, tuple, dict]] = []
    triton_room.INTERPRETED = True  # only to let CPU tensors through; nothing is run
    triton_room.FEW_SLOTS = 1  # so that the total of many slots is launched too
    for room in rooms:
        room.launch = lambda kernel, programs, t, *args, **meta: seen.append((kernel, args, meta))
    for form, call in forms:
        seen.clear()
        call()
        for kernel, args, meta in seen:
            arguments = dict(zip(kernel.arg_names, args, strict=False))
            arguments |= {n: meta.pop(n) for n in list(meta) if n in kernel.arg_names}
            yield Launch(form, FLOATS[dtype], aligned, kernel, arguments, meta)


def specialised(launch: Launch) -> tuple[dict, dict, dict]:
    """(signature, constants, attributes) as Triton derives them from arguments."""
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}

    def kind(value: Any, path: tuple[int, ...], param: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(kind(v, (*path, i), param) for i, v in enumerate(value))
        plain = isinstance(value, int) and not param.do_not_specialize
        if value is None or param.is_constexpr or (plain and value == 1):
            constants[path] = value
            return "constexpr"
        if isinstance(value, float):
            return param.annotation_type or "fp32"
        place = value.data_ptr() if isinstance(value, torch.Tensor) else value
        if place % 16 == 0 and not param.do_not_specialize:
            attributes[path] = [["tt.divisibility", 16]]
        if isinstance(value, torch.Tensor):
            return f"*{FLOATS[value.dtype]}"
        return param.annotation_type or "i32"

    signature = {
        p.name: kind(launch.arguments[p.name], (i,), p) for i, p in enumerate(launch.kernel.params)
    }
    return signature, constants, attributes


def resources(cubin: bytes) -> dict[str, int]:
    """REG, STACK, SHARED and LOCAL of a cubin, by the cuobjdump that comes with Triton."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(n) for name, n in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", text)}


def compiled(launch: Launch, arch: int) -> dict[str, Any]:
    """One launch compiled for one architecture: registers, spills and access widths."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    source = ASTSource(launch.kernel, *specialised(launch))
    options = dict(enable_fp_fusion=False, **launch.options)
    binary = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    ptx = binary.asm["ptx"]
    copies = re.findall(r"cp\.async\.c[ag]\.\S+ \[[^\]]*\], \[[^\]]*\], (0x\w+)", ptx)
    used = resources(binary.asm["cubin"])
    return dict(
        form=launch.form,
        kernel=launch.kernel.fn.__name__,
        dtype=launch.dtype,
        aligned=launch.aligned,
        arch=arch,
        registers=used["REG"],
        spilled=used["STACK"] + used["LOCAL"],
        shared=used["SHARED"],
        wide_loads=len(re.findall(r"ld\.global\S*\.(?:v4\.b32|v2\.b64)|cp\.async\.cg", ptx)),
        wide_stores=len(re.findall(r"st\.global\S*\.(?:v4\.b32|v2\.b64)", ptx)),
        stores=len(re.findall(r"st\.global", ptx)),
        loads=len(re.findall(r"ld\.global", ptx)),
        copies=len(copies),
        wide_copies=copies.count("0x10"),
        fused=len(re.findall(r"\bfma\.rn", ptx)),
        tensor_cores=len(re.findall(r"\b(?:mma|wgmma\.mma_async)\.sync", ptx)),
    )


def _compile(index: int, arch: int) -> dict[str, Any]:
    return compiled(_LAUNCHES[index], arch)


_LAUNCHES: list[Launch] = []  # inherited by the two worker processes


def main(archs: list[int]) -> None:
    """Print a JSON row for every launch and architecture.

    The last architecture alone gets odd rows, and the layer operations in float64.
    """
    single, double = torch.float32, torch.float64
    _LAUNCHES.extend(launches(single, True, bank_forms(single, *ROW)))
    _LAUNCHES.extend(launches(double, True, bank_forms(double, *ROW)))
    _LAUNCHES.extend(launches(single, True, layer_forms.every(single, True)))
    tasks = [(i, arch) for arch in archs for i in range(len(_LAUNCHES))]
    for odd in ODD:
        _LAUNCHES.extend(launches(single, False, bank_forms(single, *odd)))
    for dtype, aligned in ((double, True), (single, False)):
        _LAUNCHES.extend(launches(dtype, aligned, layer_forms.every(dtype, aligned)))
    tasks += [(i, archs[-1]) for i in range(len(tasks) // len(archs), len(_LAUNCHES))]
    show(tasks)


def show(tasks: list[tuple[int, int]]) -> None:
    """Print a JSON row for every (place in `_LAUNCHES`, architecture)."""
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        for row in pool.map(_compile, *zip(*tasks, strict=True)):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET"):
        raise SystemExit("TRITON_INTERPRET must not be set here")
    main([int(a) for a in sys.argv[1:]] or [80, 90])
