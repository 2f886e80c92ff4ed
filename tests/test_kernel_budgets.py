"""What every kernel takes on Hopper stays within kernel_budgets.csv; see `kernel_budgets.py`.

Other Tritons than those of the tables have other numbers: under those only `test_triton_compile`
and its like hold. Under the oldest the launches of a step are held, and nothing else is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import compiled
import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed on this platform")

import budget_tables  # noqa: E402
import kernel_budgets  # noqa: E402
import launches  # noqa: E402
from kernel_budgets import SCRIPTS, Budget, Key  # noqa: E402

HERE = next((t for t in kernel_budgets.TABLES if triton.__version__.startswith(t)), "")
pytestmark = pytest.mark.skipif(not HERE, reason="budgets are those of other Tritons")
only_newest = pytest.mark.skipif(
    HERE != kernel_budgets.TRITON, reason=f"about the table of Triton {kernel_budgets.TRITON}*"
)
CHECKED = kernel_budgets.OLD_SCRIPTS if HERE == kernel_budgets.OLD_TRITON else tuple(SCRIPTS)
LEAST_WARPS = (
    16  # of 64: 8 for each scheduler's quarter would hide more; four do, with 16 bytes each
)
# Kernels that leave less room somewhere, and why.
FEWER = {
    "step_forward": 12,  # three products of TF32 parts for each of four gates
    "_pieces": 12,  # three products of TF32 parts; or four stages of 32 x 64 numbers twice
    "_correlate": 8,  # three products of TF32 parts of 64 x 128 sums
    "_weight_gradient": 8,  # a warp group's operands of four passes in shared memory
    "resident": 8,  # a block has all of a multiprocessor's shared memory
}
PRODUCTS = {"_product", "_correlate", "_weight_gradient", "_pieces", "_apply", "_formed"}
Launches = dict[Key, Mapping[str, Any]]


@pytest.fixture(scope="module", params=CHECKED)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Launches, dict[Key, Budget]]:
    """What a script compiles, and its part of the table."""
    rows = compiled.rows(tmp_path_factory, request.param, *SCRIPTS[request.param])
    return kernel_budgets.keyed(rows), kernel_budgets.table(request.param, HERE)


def test_every_launch_has_a_budget_and_every_budget_a_launch(
    found: tuple[Launches, dict[Key, Budget]],
) -> None:
    measured, budgets = found
    assert measured.keys() == budgets.keys()


def test_no_launch_breaks_its_budget(found: tuple[Launches, dict[Key, Budget]]) -> None:
    measured, budgets = found
    broken = {key: budgets[key].broken(row) for key, row in measured.items() if key in budgets}
    assert {key: what for key, what in broken.items() if what} == {}


def test_budgets_are_near_what_is_measured(found: tuple[Launches, dict[Key, Budget]]) -> None:
    measured, budgets = found
    assert [key for key, row in measured.items() if budgets[key].outdated(row)] == []


@only_newest
def test_the_page_has_the_tables() -> None:
    page = (Path(__file__).parents[1] / "docs/gpu.md").read_text()
    assert budget_tables.occupancy() in page and budget_tables.reasons() in page


@only_newest
def test_every_kernel_has_a_budget() -> None:
    known = {kernel for script in SCRIPTS for _, kernel, _ in kernel_budgets.table(script)}
    assert {name.rsplit(".")[-1] for name in launches.kernels()} == known


@only_newest
def test_multiprocessors_have_warps_to_change_between() -> None:
    for script in (*SCRIPTS, "resident.cu"):
        for (form, kernel, _), budget in kernel_budgets.table(script).items():
            assert budget.warps >= FEWER.get(kernel, LEAST_WARPS), (form, kernel, budget)
    least = {kernel: budget.warps for kernel, budget in _tightest()}
    assert {kernel: least[kernel] for kernel in FEWER} == FEWER


def _tightest() -> list[tuple[str, Budget]]:
    tables = [kernel_budgets.table(script) for script in (*SCRIPTS, "resident.cu")]
    rows = [(kernel, budget) for each in tables for (_, kernel, _), budget in each.items()]
    return sorted(rows, key=lambda row: -row[1].warps)


def test_steps_of_workloads_multiply_on_tensor_cores(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The three of the default precision, in the loops themselves, and nowhere else."""
    rows = compiled.rows(tmp_path_factory, "workload_code.py")
    products = [row for row in rows if row["kernel"] in PRODUCTS]
    for row in products:
        assert row["code"]["products"] >= 3 and row["code"]["fused"] < 64, row
    assert {row["kernel"] for row in products} == PRODUCTS


# Of `planted_code.py`: what each fault breaks at least.
BREAKS = {
    "none": set(),
    "a division of 64 bits in the loop": {"loop", "calls"},
    "rows no longer known to be multiples of 16 bytes": {"loop", "code"},
    "products without tensor cores": {"loop", "products", "warps"},
    "a tile too large": {"loop", "warps"},
}


@only_newest
def test_planted_faults_break_budgets(tmp_path_factory: pytest.TempPathFactory) -> None:
    budget = kernel_budgets.table("aot.py")["linear tf32", "_product", 1]
    rows = compiled.rows(tmp_path_factory, "planted_code.py")
    broken = {row["fault"]: set(budget.broken(row)) for row in rows}
    assert broken.keys() == BREAKS.keys() and broken["none"] == set()
    for fault, expected in BREAKS.items():
        assert expected <= broken[fault], (fault, broken[fault])


@pytest.mark.parametrize("name", ["code", "loop"])
def test_a_budget_that_holds_nothing_is_found(name: str) -> None:
    budget = Budget(1000, 200, 0, 0, registers=32, shared=0, threads=128)
    code = dict(code=1000, loop=200, products=0, calls=0, local=0)
    row = dict(code=code, registers=32, shared=0, threads=128, spilled=0)
    assert not budget.outdated(row) and not budget.broken(row)
    assert budget.outdated(row | dict(code=code | {name: code[name] * 4 // 5}))
