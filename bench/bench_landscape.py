"""A landscape of W1's CNN: `python bench/bench_landscape.py [--grid 51] [--write]`.

Seconds of a grid of models on the same samples by `fedfast.landscape`, and of a script that writes
each model's weights into a module and calls it, timed on a few points and scaled up. Beside them
what float32 arithmetic forbids to go below: the forward passes' products at the rate of a large
SGEMM, measured just before and after.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import result_files
import torch
import torch.nn.functional as F
import yardsticks
from sizes import SMOKE, pick
from torch import Tensor, nn

from fedfast.data import Samples
from fedfast.landscape import ModelLosses, Slice, random_plane, surface
from fedfast.layout import FlatLayout
from fedfast.models import build

CLASSES = 10
FLOP = 2 * (28 * 28 * 32 * 25 + 14 * 14 * 64 * 32 * 25 + 3136 * 512 + 512 * 10)  # of one sample
POINTS = pick(8, 2)  # of the grid, that the script evaluates
CHUNK = 500  # samples that it takes at a time


def grid_seconds(plane: Slice, losses: ModelLosses, grid: int) -> tuple[float, Tensor]:
    """(seconds, losses of all points)."""
    begin = time.perf_counter()
    found = surface(plane, losses, grid)
    return time.perf_counter() - begin, found.loss


@torch.no_grad()
def script(plane: Slice, module: nn.Module, samples: Samples, at: Sequence[float]) -> float:
    """The loss of one model, as scripts take it."""
    with torch.no_grad():
        for p, w, u, v in zip(
            module.parameters(),
            *(plane.layout.views(row).values() for row in (plane.origin, *plane.axes)),
            strict=True,
        ):
            p.copy_(w + at[0] * u + at[1] * v)
        parts = [module(part) for part in samples.x.split(CHUNK)]
    return float(F.cross_entropy(torch.cat(parts), samples.y))


def script_seconds(plane: Slice, module: nn.Module, samples: Samples, grid: int) -> float:
    """Of a whole grid, from a few points."""
    script(plane, module, samples, (0.0, 0.0))
    begin = time.perf_counter()
    for i in range(POINTS):
        script(plane, module, samples, (i / POINTS, 0.5))
    return (time.perf_counter() - begin) / POINTS * grid**2


def measure(grid: int, number: int, threads: int) -> dict[str, object]:
    """One row of landscape.csv."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    module = build("cnn", input_shape=(1, 28, 28), classes=CLASSES).eval()
    samples = Samples(torch.randn(number, 1, 28, 28), torch.randint(CLASSES, (number,)))
    layout = FlatLayout.of(module)
    plane = random_plane(layout, layout.flatten(module))
    losses = ModelLosses(module, layout, samples)
    losses(plane.row(0.0, 0.0)[None])
    before = yardsticks.seconds(time.perf_counter)
    seconds, found = grid_seconds(plane, losses, grid)
    other = script_seconds(plane, module, samples, grid)
    rate = yardsticks.rates(before, yardsticks.seconds(time.perf_counter))["sgemm"]["median"]
    exact = script(plane, module, samples, (-1.0, -1.0))
    if abs(float(found[0, 0]) - exact) > 1e-5 * max(1.0, exact):
        raise ValueError(f"losses differ: {float(found[0, 0])} and {exact}")
    work = float(FLOP) * number * grid**2
    return result_files.stamp(threads) | {
        "grid": grid,
        "samples": number,
        "seconds": round(seconds, 3),
        "script_seconds": round(other, 3),
        "gflops": round(work / seconds / 1e9, 1),
        "sgemm_gflops": round(rate / 1e9, 1),
        "float32_limit_s": round(work / rate, 3),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a row; `--write` appends it to results/landscape.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", type=int, default=pick(51, 3))
    parser.add_argument("--samples", type=int, default=pick(1000, 10))
    parser.add_argument("--threads", type=int, default=1 if SMOKE else 2)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    row = measure(options.grid, options.samples, options.threads)
    print(*(f"{name:16} {value}" for name, value in row.items()), sep="\n")
    if options.write:
        result_files.append("landscape", row)


if __name__ == "__main__":
    main()
