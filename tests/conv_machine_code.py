"""What convolutions of real size become on Hopper: programs, registers, instructions of the loop.

Run as a script without TRITON_INTERPRET: prints a JSON row per launch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial

import aot
import torch
from fedfast.kernels import conv, conv_backward

# B, C, side, O, kernel, padding: those of `bench/bench_conv.py`
LAYERS = {
    "W1 first": (50, 1, 28, 32, 5, 2),
    "W1 second": (50, 32, 14, 64, 5, 2),
    "W4 first": (64, 3, 32, 64, 5, 0),
    "W4 second": (64, 64, 14, 64, 5, 0),
    "ResNet 3x3": (32, 64, 16, 64, 3, 1),
}
IMAGES = ("W4 first",)  # whose input is the samples: of what is trained, W1's too
CLIENTS = 5
PRODUCTS = ("_correlate", "_weight_gradient")
PRECISIONS = {name: tuple(LAYERS) for name in ("fp32", "tf32", "tf32x3")} | {"bf16": ("W1 second",)}


def forms(precision: str) -> aot.Forms:
    """Forward and backward of every layer."""
    layers = {name: LAYERS[name] for name in PRECISIONS[precision]}
    for name, (batch, channels, side, outputs, taps, padding) in layers.items():
        x = torch.zeros(CLIENTS, batch, channels, side, side)
        weight = torch.zeros(CLIENTS, outputs, channels, taps, taps)
        sides = [side + 2 * padding - taps + 1] * 2
        out, dout = torch.zeros(2, CLIENTS, batch, outputs, *sides)
        options = dict(padding=padding, precision=precision, backend="triton")
        yield f"{name} forward", partial(conv, x, weight, out=out, **options)
        sinks = dict(dweight=torch.zeros_like(weight))
        if name not in IMAGES:
            sinks["dx"] = torch.zeros_like(x)
        yield f"{name} backward", partial(conv_backward, x, weight, out, dout, **sinks, **options)


def rows() -> Iterator[dict[str, object]]:
    """One per launch."""
    precisions: list[str] = []
    for precision in PRECISIONS:
        for launch in aot.launches(torch.float32, True, forms(precision)):
            if precision == "fp32" or launch.name in PRODUCTS:  # others are told of none
                aot._LAUNCHES.append(launch)
                precisions.append(precision)
    tasks = [(place, 90) for place in range(len(precisions))]
    for row, launch, precision in zip(aot.rows(tasks), aot._LAUNCHES, precisions, strict=True):
        instructions = per_product(launch, row["code"]["loop"])
        yield row | dict(precision=precision, instructions=instructions)


def per_product(launch: aot.Launch, loop: int) -> float:
    """Threads' instructions for each multiply-add of a tile; loop: those of a pass."""
    if launch.name not in PRODUCTS:
        return 0.0
    elements = launch.meta["BLOCK_M"] * launch.meta["BLOCK_P"] * launch.meta["BLOCK_R"]
    return loop * 32 * launch.meta["num_warps"] / elements


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET"):
        raise SystemExit("TRITON_INTERPRET must not be set here")
    for row in rows():
        print(json.dumps(row), flush=True)
