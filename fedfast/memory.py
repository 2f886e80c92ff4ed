"""How many clients fit: bytes per client of a run, the largest K within a budget, and half of K
where a device runs out of memory all the same."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import nn

from .algorithms import Algorithm
from .algorithms.in_place import placed_rows
from .algorithms.trained_layout import TrainedLayout
from .data import FederatedData
from .data.pages import resident_bytes
from .data.size_limits import available_memory
from .layout import FlatLayout
from .report.units import binary_size

GIB = 1 << 30
# Of free memory. On a host others live in what is left; a device is usually one run's own, and what
# is left there is for the operations' workspace and for evaluation.
SHARES = {"cpu": 0.25, "cuda": 0.8}

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class MemoryPlan:
    """K and what it rests on.

    chunk   K, clients trained together
    cohort  the most that train in one round
    each    bytes per client: live rows, activations, its batch; on a device the tables of its steps
    fixed   bytes whatever K is: the server's rows, copies of the model, the clients' own, and the
            samples where `memory` was a number
    budget  bytes all of that should fit in
    """

    chunk: int
    cohort: int
    each: int
    fixed: int
    budget: int

    def __str__(self) -> str:
        return (
            f"K = {self.chunk} of {self.cohort} clients at once, {binary_size(self.each)} each and "
            f"{binary_size(self.fixed)} besides, within {binary_size(self.budget)}"
        )


def bytes_per_client(layout: FlatLayout, algorithm: Algorithm) -> int:
    """Bytes one client adds to the live buffers: w, g, and what the algorithm has beside them; not
    the addend, see `addend_bytes`."""
    local = algorithm.local
    rows = 2 + int(local.ascends) + int(local.keeps) + int(local.momentum > 0)
    gathered = len(algorithm.client_rows()) - len(placed_rows(algorithm))
    rows += gathered + len(algorithm.scratch_rows())
    rows += 2 * int(algorithm.drift.full_gradient)  # what sums of changes compare
    return max(1, rows * layout.stride * layout.dtype.itemsize)


def addend_bytes(layout: FlatLayout, algorithm: Algorithm) -> int:
    """Bytes of one row of what corrects the gradient all round: each thread that trains from plans
    on the CPU writes one; a device holds one for each client."""
    wanted = algorithm.constant and not algorithm.plain
    return layout.trained * layout.dtype.itemsize if wanted else 0


def table_bytes(
    layout: FlatLayout,
    algorithm: Algorithm,
    steps: int,
    width: int,
    augments: bool = False,
    draws: bool = False,
) -> int:
    """Bytes of one client of what a device's steps read beside its rows and samples.

    A line for each of its `steps`: the places of `width` samples and their number; a seed where
    layers draw, how each is moved where images are augmented. And the numbers of recorded steps:
    the rate and what hooks ask for by step, with room for twice the steps beside those at hand,
    and what they ask for by chunk.
    """
    line = 8 * width + 4 + 8 * draws + (2 * 4 + 1) * width * augments
    by_step, by_chunk = algorithm.held_numbers(TrainedLayout.of(layout))
    numbers = (1 + by_step) * (2 * steps + 1) + by_chunk
    return steps * line + layout.dtype.itemsize * numbers


def server_bytes(layout: FlatLayout, algorithm: Algorithm) -> int:
    """Bytes of the server's rows, each twice (now and next), the row sent, and float64 sums,
    that of the mean twice."""
    own = len(algorithm.server_rows())
    rows = 2 * (1 + algorithm.server.kernel(1.0).moments + own) + 1
    return layout.stride * (rows * layout.dtype.itemsize + 8 * (2 + own))


def taking_part(population: int, rounds: int, cohort: int) -> int:
    """Clients that are expected to have rows as the last of so many rounds of drawn cohorts begins.

    `N (1 - (1 - C / N)^(T - 1))`, the mean over draws.
    """
    share = min(1.0, cohort / population)
    return math.ceil(population * (1.0 - (1.0 - share) ** (rounds - 1)))


def row_widths(layout: FlatLayout, algorithm: Algorithm) -> dict[str, int]:
    """Elements of the rows that a client keeps between rounds, by name."""
    kinds = algorithm.client_rows().items()
    return {n: layout.stride if kind == "model" else layout.trained for n, kind in kinds}


def cohort_bytes(layout: FlatLayout, algorithm: Algorithm, cohort: int) -> int:
    """Bytes of a cohort's models, which rules that weigh them all keep to the round's end."""
    return cohort * layout.stride * layout.dtype.itemsize if algorithm.server.whole else 0


def module_bytes(module: nn.Module, workers: int) -> int:
    """Bytes of the copies of the user's module: the run's own, two of every worker of the module
    executor, which evaluation may need under a program too, and the two of the verification."""
    tensors = [*module.parameters(), *module.buffers()]
    return (1 + 2 * workers + 2) * sum(t.numel() * t.element_size() for t in tensors)


def data_bytes(data: FederatedData) -> int:
    """Bytes of the samples on the device; files that are mapped take none for themselves."""
    return sum(map(resident_bytes, (data.x, data.y, data.order, data.offsets)))


def free_bytes(device: torch.device) -> int:
    """Free memory of the device, as the system reports it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()


def share_with(processes: int) -> None:
    """Have "auto" take this process's part of free memory, of so many `processes` side by side."""
    SHARES.update({device: share / processes for device, share in SHARES.items()})


def plan(
    memory: float | str,
    chunk: int | None,
    cohort: int,
    each: int,
    server: int,
    data: int,
    device: torch.device,
    clients: int = 0,
) -> MemoryPlan:
    """K: `chunk`, or what fits; never more than the cohort.

    each, server, data, clients   bytes of one client at work, of the server's rows and the copies
             of the model, of the samples and of what clients keep between rounds

    memory  "auto": a share of what is free now, with the samples in place; a number: GiB in all
    Raises ValueError if a number of GiB cannot hold one client.
    """
    if memory == "auto":
        fixed, budget = server + clients, int(SHARES[device.type] * free_bytes(device))
    else:
        fixed, budget = server + data + clients, int(float(memory) * GIB)
        if chunk is None and fixed + each > budget:
            parts = {
                "samples": data,
                "server's rows and copies of the model": server,
                "clients' rows between rounds": clients,
                "one client at work": each,
            }
            table = "".join(f"\n  {binary_size(n):>10}  {part}" for part, n in parts.items())
            raise ValueError(
                f"memory: expected at least {(fixed + each) / GIB:.3g} GiB; got {memory}. "
                f"Needed are{table}"
            )
    # No smaller K makes clients' rows fit: "auto" chooses by what K changes, and warns of the rest.
    beside = fixed - clients if memory == "auto" else fixed
    fits = (budget - beside) // each if chunk is None else chunk
    made = MemoryPlan(max(1, min(cohort, fits)), cohort, each, fixed, budget)
    if memory == "auto" and clients > 0 and fixed + made.chunk * each > budget:
        logging.getLogger("fedfast").warning(
            "memory: the run needs up to %s, %s of them rows of clients; its share of free memory "
            "is %s",
            *map(binary_size, (fixed + made.chunk * each, clients, budget)),
        )
    return made


class Halving(Generic[T]):
    """What is made for K clients, made anew for K / 2 when the device has no memory left.

    make  K -> the thing; its buffers must go when it goes
    """

    def __init__(self, make: Callable[[int], T], chunk: int) -> None:
        self._make, self.chunk = make, chunk
        self._held: T | None = None

    def use(self, work: Callable[[T, int], R]) -> R:
        """`work(thing, K)`, tried again from its beginning for fewer clients where it must be.

        Raises torch.OutOfMemoryError where K = 1 does not fit either.
        """
        while True:
            try:
                if self._held is None:
                    self._held = self._make(self.chunk)
                return work(self._held, self.chunk)
            except torch.OutOfMemoryError:
                if self.chunk == 1:
                    raise
            self._shrink()  # not inside of `except`: the error's frames keep the buffers alive

    def forget(self) -> None:
        """What is made goes; the next use makes it anew, for `chunk` clients."""
        self._held = None

    def _shrink(self) -> None:
        self._held, self.chunk = None, self.chunk // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logging.getLogger("fedfast").warning(
            "out of memory with %d clients at once; going on with %d", 2 * self.chunk, self.chunk
        )
