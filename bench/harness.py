"""One contest: an operation against a plain copy of its bytes and against what users write.

Contestants take turns, so that whatever else the machine does falls on all of them alike. Before
each turn the caches are filled with something else: operands come from memory, as they do in
training, where forward and backward passes lie between two operations on a bank.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from fedfast.kernels import Segments
from result_files import Stamp, append, stamp
from torch import Tensor

K = 10
# The CNN of McMahan et al. 2017 for 28 x 28 images: P = 1,663,370.
SHAPES = ((32, 1, 5, 5), (32,), (64, 32, 5, 5), (64,), (512, 3136), (512,), (10, 512), (10,))
P = sum(int(np.prod(shape)) for shape in SHAPES)
ROUNDS = 15
THREADS = (1, 2)
ELSEWHERE = torch.empty(32 * 2**20)  # 128 MB

Action = Callable[[], object]
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


@dataclass(frozen=True)
class Row(Stamp):
    """What a contest found; a line of operations.csv."""

    numpy: str
    operation: str
    form: str
    clients: int
    parameters: int
    dtype: str
    megabytes: float
    median_ms: float
    p20_ms: float
    p80_ms: float
    gb_per_s: float
    copy_gb_per_s: float
    ratio_copy: float
    ratio_foreach: float
    ratio_per_tensor: float


def copies(megabytes: float, threads: int) -> dict[str, Action]:
    """Plain copies that read and write as many bytes in all: torch's, and memcpy on each thread."""
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


def timed(action: Action) -> float:
    """Seconds, operands out of cache."""
    ELSEWHERE.fill_(1.0)
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def alternate(contestants: dict[str, Action]) -> dict[str, list[float]]:
    """Seconds of every contestant in ROUNDS rounds, after two to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(ROUNDS + 2):
        for name, action in contestants.items():
            spent = timed(action)
            if turn >= 2:
                seconds[name].append(spent)
    return seconds


def hold(
    operation: str,
    form: str,
    threads: int,
    bytes_per_element: float,
    native: Action,
    foreach: Action,
    per_tensor: Action | None = None,
) -> Row:
    """Run the contest with `threads` threads and append its row to operations.csv.

    bytes_per_element counts per element of all K clients, as the operation's docstring does.
    foreach is the best that torch's foreach functions allow, per_tensor what published code does.
    """
    megabytes = bytes_per_element * K * P / 1e6
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        peers = {"foreach": foreach, "per_tensor": per_tensor or foreach}
        seconds = alternate({"native": native} | peers | copies(megabytes, threads))
    finally:
        torch.set_num_threads(before)
    row = summary(operation, form, threads, megabytes, seconds)
    append("operations", vars(row))
    return row


def summary(
    operation: str, form: str, threads: int, megabytes: float, seconds: dict[str, list[float]]
) -> Row:
    median = {name: statistics.median(values) for name, values in seconds.items()}
    p20, p80 = np.percentile(seconds["native"], [20, 80]) * 1e3
    copy = min(median["copy_"], median["memcpy"])
    figures = {
        "megabytes": megabytes,
        "median_ms": median["native"] * 1e3,
        "p20_ms": p20,
        "p80_ms": p80,
        "gb_per_s": megabytes / median["native"] / 1e3,
        "copy_gb_per_s": megabytes / copy / 1e3,
        "ratio_copy": copy / median["native"],
        "ratio_foreach": median["foreach"] / median["native"],
        "ratio_per_tensor": median["per_tensor"] / median["native"],
    }
    return Row(
        numpy=np.__version__,
        operation=operation,
        form=form,
        clients=K,
        parameters=P,
        dtype="float32",
        **stamp(threads),
        **{name: round(float(value), 3) for name, value in figures.items()},
    )
