"""Launches every Triton kernel on a GPU that is not there, and tells what was compiled for it.

The launchers run on CPU tensors with `launch` replaced by a recorder; worker processes then make
the recorded calls on a `fake_gpu`, through Triton's own binder and compiler. Run as a script
without TRITON_INTERPRET: prints one JSON row per kernel, form and architecture.

    python tests/aot.py [80 90]
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import fake_gpu
import layer_forms
import machine_code
import torch
from fedfast.kernels import (
    Segments,
    Server,
    adam,
    advance,
    aggregate,
    fetch,
    gather,
    gram,
    mix,
    perturb,
    registry,
    sensitivity,
    stats,
    step,
)
from fedfast.kernels.declaration import OPERATIONS
from fedfast.kernels.harmonize import harmonize
from fedfast.kernels.packing import ByStep, Into, Packed, Tally, Tones
from fedfast.kernels.triton import common, sums

for declared in OPERATIONS.values():  # implementations are imported late: here before any change
    registry.folder("fedfast.kernels.triton")(declared)
LAUNCH = common.launch
K = 3
ROW = 64 * 160, Segments.of([0, 5024, 5056], [5000, 10, 5000], [True, False, True])  # as in a run
ODD = ((33, Segments.of([0, 7, 17], [5, 10, 15])), (1, Segments.of([0, 1], [1, 0])))
FLOATS = {torch.float32: "fp32", torch.float64: "fp64", torch.int32: "i32"}
FLOATS |= {torch.int64: "i64", torch.uint8: "u8"}
STREAMS = {"_columns"}  # whose loads in flight are counted
Forms = Iterator[tuple[str, Callable[[], Any]]]


@dataclass
class Launch:
    """One recorded call of `launch`."""

    form: str
    dtype: str
    aligned: bool
    kernel: Any
    programs: int
    tensor: torch.Tensor
    arguments: tuple[Any, ...]
    meta: dict[str, Any]

    @property
    def name(self) -> str:
        return self.kernel.fn.__name__


class Kept:
    """A kernel for `launch`, which remembers what was compiled."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.binary = kernel, None

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def run(*args: Any, **meta: Any) -> None:
            self.binary = self.kernel[grid](*args, **meta)

        return run


def bank_forms(dtype: torch.dtype, size: int, segments: Segments) -> Forms:
    """(name, call) of every operation on banks in the forms that compile differently."""
    w, g, m = torch.zeros(3, K, size, dtype=dtype)
    shared, rho = torch.zeros(size, dtype=dtype), torch.ones(K, segments.count, dtype=dtype)
    call = dict(backend="triton")
    layers = dict(segments=segments, **call)
    yield "mix", partial(mix, w, shared, **call)
    moments = m, torch.ones_like(m)
    yield "adam", partial(adam, w, g, *moments, 3.0, 0.1, **call)
    yield "adamw", partial(adam, w, g, *moments, 3.0, rho[:, 0], decoupled=True, **call)
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
    many = torch.zeros(33, size, dtype=dtype)  # tiles of other sizes
    yield "gram twelve", partial(gram, many[:12], **layers)
    yield "gram many", partial(gram, many, shared, **layers)
    table, pairs = torch.zeros(2, K, K, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.int32)
    yield "harmonize", partial(harmonize, table, table[0, 0], pairs, True, **call)
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
    lines, count = rows[:, 0].contiguous(), torch.zeros(K, dtype=torch.int32)
    packed, beside = Packed(rows, count, lines), (rows.clone(), count.clone())
    labels, copied = torch.zeros(9, dtype=torch.int64), torch.zeros(K, 2, size, dtype=dtype)
    yield "fetch copy", partial(fetch, w, labels, packed, Into(copied, *beside), Tones(), **call)
    moved = replace(packed, flip=rows > 0, offset=torch.zeros(K, 2, 2, dtype=torch.int32))
    into = Into(batch["out"], *beside)
    yield "fetch crop", partial(fetch, images, labels, moved, into, tones(dtype), **call)
    tally = Tally(shared[:K], count, torch.zeros(2, K, dtype=torch.float64), lines, lines[0])
    yield "advance", partial(advance, tally, **call)
    by_step = ByStep(torch.zeros(3, 5, K, dtype=dtype), torch.zeros(3, K, dtype=dtype), lines)
    yield "advance numbers", partial(advance, tally, by_step, **call)


def tones(dtype: torch.dtype) -> Tones:
    """Of three channels."""
    return Tones(*torch.ones(3, 3, dtype=dtype))


def launches(dtype: torch.dtype, aligned: bool, forms: Forms) -> Iterator[Launch]:
    """What the launchers launch for each form, without running it."""
    ours = [module for name, module in sys.modules.items() if name.startswith("fedfast.kernels.")]
    rooms: list[Any] = [module for module in ours if hasattr(module, "launch")]
    seen: list[tuple[Any, int, torch.Tensor, tuple, dict]] = []
    common.INTERPRETED = True  # only to let CPU tensors through; nothing is run
    registry.check_overlap = lambda *_: None  # forms name one tensor twice; nothing is written
    sums.FEW_SLOTS = 1  # so that the total of many slots is launched too
    for room in rooms:
        room.launch = lambda kernel, programs, tensor, *args, **meta: seen.append(
            (kernel, programs, tensor, args, meta)
        )
    for form, call in forms:
        seen.clear()
        call()
        for call_of_launch in seen:
            yield Launch(form, FLOATS[dtype], aligned, *call_of_launch)


def launched(launch: Launch, arch: int, whole: bool = True) -> Any:
    """The binary of one launch on an architecture, made and bound as Triton does on a device."""
    common.INTERPRETED = False
    fake_gpu.use(arch, whole)
    kept = Kept(launch.kernel)
    try:
        LAUNCH(kept, launch.programs, launch.tensor, *launch.arguments, **launch.meta)
    except Exception as error:
        raise RuntimeError(f"{launch.form} ({launch.dtype}): {launch.name} on {arch}") from error
    return kept.binary


def compiled(launch: Launch, arch: int) -> tuple[dict[str, Any], bytes]:
    """One launch compiled for one architecture: registers, spills, access widths; its code."""
    binary = launched(launch, arch)
    ptx = binary.asm["ptx"]
    copies = re.findall(r"cp\.async\.c[ag]\.\S+ \[[^\]]*\], \[[^\]]*\], (0x\w+)", ptx)
    (used,) = machine_code.resources(binary.asm["cubin"]).values()
    row = pair_products(launch, binary) | dict(
        form=launch.form,
        kernel=launch.name,
        dtype=launch.dtype,
        aligned=launch.aligned,
        arch=arch,
        programs=launch.programs,
        threads=32 * binary.metadata.num_warps,
        registers=used["REG"],
        spilled=used["STACK"] + used["LOCAL"],
        shared=binary.metadata.shared,
        wide_loads=len(re.findall(r"ld\.global\S*\.(?:v4\.b32|v2\.b64)|cp\.async\.cg", ptx)),
        wide_stores=len(re.findall(r"st\.global\S*\.(?:v4\.b32|v2\.b64)", ptx)),
        stores=len(re.findall(r"st\.global", ptx)),
        loads=len(re.findall(r"ld\.global", ptx)),
        copies=len(copies),
        wide_copies=copies.count("0x10"),
        fused=len(re.findall(r"\bfma\.rn", ptx)),
        rounded=len(re.findall(r"\bcvt\.rna", ptx)),
        tensor_cores=len(re.findall(r"\b(?:mma|wgmma\.mma_async)\.sync", ptx)),
    )
    return row, machine_code.texts(binary.asm["cubin"])[launch.name]


def pair_products(launch: Launch, binary: Any) -> dict[str, Any]:
    """Of `gram`: shapes of the float64 products of tensor cores, and the tile.

    shapes  (rows, columns, depth) of each instruction of a warp
    """
    if launch.name != "tile_products":
        return {}
    shapes = re.findall(r"mma\.sync\.aligned\.m(\d+)n(\d+)k(\d+)\S*f64", binary.asm["ptx"])
    tile = dict(
        side=launch.meta["TILE"], depth=launch.meta["DEPTH"], warps=launch.meta["num_warps"]
    )
    return tile | dict(shapes=[tuple(map(int, s)) for s in shapes])


def _compile(index: int, arch: int) -> tuple[dict[str, Any], bytes]:
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
    """Print a JSON row for every (place in `_LAUNCHES`, architecture); see `rows`."""
    for row in rows(tasks):
        print(json.dumps(row))


def rows(tasks: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """What `compiled` finds of every (place in `_LAUNCHES`, architecture).

    code  what `machine_code.counts` says, on Hopper of float32 in rows as in a run; else None
    in_flight  see `machine_code`: of kernels that stream, there
    """
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        found = list(pool.map(_compile, *zip(*tasks, strict=True)))
    codes = iter(machine_code.disassembled([code for row, code in found if _is_read(row)]))
    return [row | _read(row, next(codes) if _is_read(row) else []) for row, _ in found]


def _is_read(row: dict[str, Any]) -> bool:
    wanted = row["dtype"] == "fp32" or row["kernel"] in STREAMS
    return row["arch"] == 90 and row["aligned"] and wanted


def _read(row: dict[str, Any], code: machine_code.Code) -> dict[str, Any]:
    streams = bool(code) and row["kernel"] in STREAMS
    return dict(
        code=machine_code.counts(code) if code and row["dtype"] == "fp32" else None,
        in_flight=machine_code.in_flight(code) if streams else None,
    )


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET"):
        raise SystemExit("TRITON_INTERPRET must not be set here")
    main([int(a) for a in sys.argv[1:]] or [80, 90])
