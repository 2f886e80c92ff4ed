"""An operation beside a copy of as many bytes and beside what users of torch write.

All take turns, see `alternate.py`. Before each turn the caches are filled with something else:
operands come from memory, as they do in training, where forward and backward passes run between two
operations on a buffer `[K, S]`.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from alternate import Action, alternate, torch_threads
from fedfast.kernels import Segments
from result_files import append, quantiles, stamp
from torch import Tensor

K = 10
# The CNN of McMahan et al. 2017 for 28 x 28 images: P = 1,663,370.
SHAPES = ((32, 1, 5, 5), (32,), (64, 32, 5, 5), (64,), (512, 3136), (512,), (10, 512), (10,))
P = sum(int(np.prod(shape)) for shape in SHAPES)
ROUNDS = 15
THREADS = (1, 2)
CACHE_FILLER = torch.empty(32 * 2**20)  # 128 MB

Lists = list[list[Tensor]]


def layout() -> tuple[Segments, int]:
    """The segment table of the CNN, tensors at multiples of 32, and the row stride S."""
    offsets, end = [], 0
    for shape in SHAPES:
        offsets.append(end)
        end += -(-int(np.prod(shape)) // 32) * 32
    lengths = [int(np.prod(shape)) for shape in SHAPES]
    weights = [len(shape) > 1 for shape in SHAPES]
    return Segments.of(offsets, lengths, weights), -(-end // 64) * 64


SEGMENTS, S = layout()


def bank(*shape: int) -> Tensor:
    """Random float32, [K, S] unless a shape is given."""
    return torch.randn(*(shape or (K, S)))


def tensors(scale: float = 1.0) -> list[Tensor]:
    """One model as its nn.Module holds it: a tensor per parameter."""
    return [scale * torch.randn(shape) for shape in SHAPES]


def models(scale: float = 1.0) -> Lists:
    """K models."""
    return [tensors(scale) for _ in range(K)]


def copies(megabytes: float, threads: int) -> dict[str, Action]:
    """Copies that read and write as many bytes in all: torch's, and memcpy on each thread."""
    n = int(megabytes * 1e6 / 8)
    source, target = torch.ones(n), torch.empty(n)
    pool = ThreadPoolExecutor(threads)
    cuts = [n * t // threads for t in range(threads + 1)]
    pairs = [
        (target.numpy()[a:b], source.numpy()[a:b]) for a, b in zip(cuts[:-1], cuts[1:], strict=True)
    ]

    def memcpy() -> None:
        list(pool.map(lambda pair: np.copyto(*pair), pairs))

    single = {1: lambda: np.copyto(*pairs[0])}
    return {"copy_": lambda: target.copy_(source), "memcpy": single.get(threads, memcpy)}


def compare(
    operation: str,
    form: str,
    threads: int,
    bytes_per_element: float,
    native: Action,
    foreach: Action,
    per_tensor: Action | None = None,
) -> dict[str, Any]:
    """Time an operation with `threads` threads beside its baselines; its row of operations.csv.

    bytes_per_element counts per element of all K clients, as the operation's docstring does.
    foreach is the best that torch's foreach functions allow, per_tensor what published code does.
    """
    megabytes = bytes_per_element * K * P / 1e6
    baselines = {"foreach": foreach, "per_tensor": per_tensor or foreach}
    actions = {"native": native} | baselines | copies(megabytes, threads)
    with torch_threads(threads):
        seconds = alternate_cold(actions)
    row = stamp(threads) | {
        "numpy": np.__version__,
        "operation": operation,
        "form": form,
        "clients": K,
        "parameters": P,
        "dtype": "float32",
        **figures(megabytes, seconds),
    }
    append("operations", row)
    return row


def alternate_cold(actions: dict[str, Action]) -> dict[str, list[float]]:
    """Seconds of every action in `ROUNDS` rounds, operands out of the processor's caches."""
    return alternate(actions, ROUNDS, 2, time.perf_counter, lambda: CACHE_FILLER.fill_(1.0))


def figures(megabytes: float, seconds: dict[str, list[float]]) -> dict[str, float]:
    """The measured columns of operations.csv."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    copy = min(median["copy_"], median["memcpy"])
    ratios = {
        "gb_per_s": megabytes / median["native"] / 1e3,
        "copy_gb_per_s": megabytes / copy / 1e3,
        "ratio_copy": copy / median["native"],
        "ratio_foreach": median["foreach"] / median["native"],
        "ratio_per_tensor": median["per_tensor"] / median["native"],
    }
    return {
        "megabytes": round(megabytes, 3),
        **quantiles(seconds["native"], "ms", digits=3),
        **{name: round(value, 3) for name, value in ratios.items()},
    }
