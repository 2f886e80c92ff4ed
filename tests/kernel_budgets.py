"""What kernels may take on Hopper: the table kernel_budgets.csv, and what breaks it.

A row is what was measured of a launch, compiled by the Triton and the nvcc that `TRITON` and `NVCC`
name; a launch may take a twentieth more. Its registers, shared memory and threads are no limits of
their own: what they leave room for is, the warps that a multiprocessor holds. Under the oldest
Triton a step's launches have a table of their own.

    python tests/kernel_budgets.py > new.csv    # what is measured now, to put in the table's place
    PYTHONPATH=.venv-triton36 python tests/kernel_budgets.py > new.csv    # the other one
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import compiled
import occupancy
import resident_code

TRITON, OLD_TRITON, NVCC = "3.9.", "3.6.", "13.0"
TABLES = {TRITON: "kernel_budgets.csv", OLD_TRITON: "kernel_budgets36.csv"}
OLD_SCRIPTS = ("workload_code.py",)
SCRIPTS: dict[str, tuple[str, ...]] = {
    "aot.py": ("80", "90"),
    "aot_images.py": (),
    "conv_machine_code.py": (),
    "workload_code.py": (),
}
Key = tuple[str, str, int]  # form, kernel, the how manieth of the form's launches of that kernel


@dataclass(frozen=True)
class Budget:
    """Of a launch.

    code, loop  instructions of the kernel, and of one pass of its main loop
    products    those of the loop that use tensor cores
    calls       of functions within loops
    """

    code: int
    loop: int
    products: int
    calls: int
    registers: int
    shared: int
    threads: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Budget:
        """What a row of one of `SCRIPTS` says."""
        code = (row["code"][name] for name in ("code", "loop", "products", "calls"))
        return cls(*code, row["registers"], row["shared"], row["threads"])

    @property
    def warps(self) -> int:
        """Of 64 that a multiprocessor can hold."""
        return occupancy.resident_warps(self.registers, self.shared, self.threads)

    def broken(self, row: Mapping[str, Any]) -> list[str]:
        """What a launch does that it should not; names of this class, or "local"."""
        found = Budget.of(row)
        wrong = {
            "code": found.code > most(self.code),
            "loop": found.loop > most(self.loop),
            "products": bool(found.products) != bool(self.products),
            "warps": found.warps < self.warps,
            "local": row["spilled"] + row["code"]["local"] > 0,
            "calls": found.calls > self.calls,
        }
        return [name for name, is_wrong in wrong.items() if is_wrong]

    def outdated(self, row: Mapping[str, Any]) -> bool:
        """Whether a launch takes so little that this holds nothing any more."""
        found = Budget.of(row)
        return most(found.code) < 0.9 * self.code or most(found.loop) < 0.9 * self.loop


def most(measured: int) -> int:
    """Instructions that a launch may have whose code had so many."""
    return measured + max(2, measured // 20) if measured else 0


def keyed(rows: Iterable[Mapping[str, Any]]) -> dict[Key, Mapping[str, Any]]:
    """Rows whose code was read, by what they are called in the table."""
    seen, found = Counter[tuple[str, str]](), {}
    for row in (row for row in rows if row["code"]):
        name = " ".join(filter(None, (row["form"], row.get("precision")))), row["kernel"]
        seen[name] += 1
        found[(*name, seen[name])] = row
    return found


def is_old() -> bool:
    """Whether the Triton at hand is the oldest."""
    return version("triton").startswith(OLD_TRITON)


def table(script: str, triton: str = TRITON) -> dict[Key, Budget]:
    """Budgets of what a script compiles; triton: a key of `TABLES`."""
    with Path(__file__).with_name(TABLES[triton]).open() as file:
        rows = [row for row in csv.DictReader(file) if row["script"] == script]
    keys = [(row["form"], row["kernel"], int(row["nth"])) for row in rows]
    budgets = [Budget(*(int(row[name]) for name in Budget.__annotations__)) for row in rows]
    return dict(zip(keys, budgets, strict=True))


def measured() -> Iterator[tuple[str, Key, Budget]]:
    """(script, launch, what it takes) of everything."""
    for script in OLD_SCRIPTS if is_old() else SCRIPTS:
        arguments = SCRIPTS[script]
        for key, row in keyed(compiled.parsed(compiled.printed(script, *arguments))).items():
            yield script, key, Budget.of(row)
    if is_old():
        return
    for key, row in keyed(resident_code.rows(resident_code.cubin())).items():
        yield "resident.cu", key, Budget.of(row)


if __name__ == "__main__":
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["script", "form", "kernel", "nth", *Budget.__annotations__])
    for script, key, budget in measured():
        out.writerow([script, *key, *vars(budget).values()])
