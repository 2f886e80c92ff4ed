"""The tables of docs/gpu.md on machine code and on launches that leave multiprocessors waiting.

python tests/budget_tables.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

import kernel_budgets
import launch_programs
from kernel_budgets import Budget
from launch_programs import CLIENTS, MULTIPROCESSORS, REASONS

HOT = {"_correlate", "_weight_gradient", "_product", "_slope", "_derive", "_mix", "_columns"}
HOT |= {"_cross_entropy"}


def markdown(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(map(str, line)) + " |" for line in (heads, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(heads), *lines[1:]])


def occupancy() -> str:
    """Of W1 and W3: what a multiprocessor holds of each operation's kernels, largest shape."""
    heads = ["launch", "kernel", "loop", "on tensor cores", "registers", "shared, bytes"]
    heads += ["threads", "programs", "warps of 64"]
    return markdown(heads, _hot())


def _hot() -> Iterator[Sequence[object]]:
    largest: dict[tuple[str, str], tuple[int, str, Budget]] = {}
    for (form, kernel, _), budget in kernel_budgets.table("workload_code.py").items():
        workload, operation, *shape = form.split()
        size = prod(int(n) for part in shape for n in part.split("x"))
        key = f"{workload} {operation}", kernel
        if kernel in HOT and (key not in largest or size > largest[key][0]):
            largest[key] = size, form, budget
    for (_, kernel), (_, form, b) in largest.items():
        programs = b.warps * 32 // b.threads
        yield (
            *(form, f"`{kernel}`", b.loop or "none", b.products or "", b.registers, b.shared),
            *(b.threads, programs, b.warps),
        )


def reasons() -> str:
    """Why launches have fewer programs than multiprocessors: which, and the least there are."""
    heads = ["why", "kernels", "in", *(f"K = {n}" for n in CLIENTS)]
    return markdown(heads, (_reason(name, text) for name, text in REASONS.items()))


def _reason(name: str, text: str) -> Sequence[object]:
    rows = [(key, least) for key, least, reason in launch_programs.table() if reason == name]
    kernels = dict.fromkeys(f"`{key.kernel}` of `{key.operation}`" for key, _ in rows)
    workloads = dict.fromkeys(key.workload for key, _ in rows)
    enough = f"{MULTIPROCESSORS} or more"
    least = [min((each[n] for _, each in rows if n in each), default=enough) for n in CLIENTS]
    return text, ", ".join(kernels), ", ".join(workloads), *least


if __name__ == "__main__":
    print(occupancy(), reasons(), sep="\n\n")
