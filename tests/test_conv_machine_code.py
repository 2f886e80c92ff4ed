"""Convolutions of real size on Hopper, compiled without one: what their machine code may take.

Compilation runs in a process of its own without TRITON_INTERPRET, see `conv_machine_code.py`.
"""

from __future__ import annotations

import compiled
import pytest
from compiled import Rows

pytest.importorskip("triton", reason="Triton is not installed on this platform")

MULTIPROCESSORS = 132
PRECISIONS = ("fp32", "tf32", "tf32x3", "bf16")
# Threads' instructions for a multiply-add in the longest loop, by precision. A fused multiply-add
# is one of fp32; of few channels addresses and margins cost more, but there are few terms.
CEILINGS = {
    ("W1 first forward", "_correlate"): (1.38, 0.35, 0.53),
    ("W1 first backward", "_correlate"): (5.7, 5.7, 5.7),  # no matrix product
    ("W1 first backward", "_weight_gradient"): (2.8, 0.83, 2.02),
    ("W1 second forward", "_correlate"): (1.25, 0.16, 0.28, 0.135),
    ("W1 second backward", "_correlate"): (1.26, 0.31, 0.47, 0.26),
    ("W1 second backward", "_weight_gradient"): (1.6, 0.23, 0.43, 0.28),
    ("W4 first forward", "_correlate"): (1.27, 0.2, 0.33),
    ("W4 first backward", "_weight_gradient"): (1.5, 0.168, 0.3),
    ("W4 second forward", "_correlate"): (1.25, 0.16, 0.28),
    ("W4 second backward", "_correlate"): (1.25, 0.16, 0.28),
    ("W4 second backward", "_weight_gradient"): (1.55, 0.19, 0.32),
    ("ResNet 3x3 forward", "_correlate"): (1.25, 0.16, 0.28),
    ("ResNet 3x3 backward", "_correlate"): (1.25, 0.16, 0.28),
    ("ResNet 3x3 backward", "_weight_gradient"): (1.55, 0.19, 0.32),
}
# What has no matrix product of 64 rows: 32 x 25 elements, sums over one channel.
SMALL = ("W1 first backward", "_weight_gradient")
VECTORS = ("W1 first backward", "_correlate")
# Fills all but seven of them with five clients: 25 taps of 32 channels each, and parts would add
# the sums of 50 images for the sake of a twentieth. Two tiles of 75 terms in thirteen parts are
# 130. What moves little needs few.
FEWER = {("W1 second backward", "_weight_gradient"): 125}
FEWER |= {("W4 second backward", "_weight_gradient"): 125}
FEWER |= {("W4 first backward", "_weight_gradient"): 130, ("W4 first backward", "_add_parts"): 50}
FEWER |= {("W1 first backward", "_add_parts"): 10, ("W1 first backward", "_pack"): 5}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return compiled.rows(tmp_path_factory, "conv_machine_code.py")


def test_instructions_of_a_loop_stay_below_their_ceilings(rows: Rows) -> None:
    products = [row for row in rows if (row["form"], row["kernel"]) in CEILINGS]
    assert len(products) == sum(map(len, CEILINGS.values()))
    for row in products:
        ceilings = CEILINGS[row["form"], row["kernel"]]
        assert 0 < row["instructions"] <= ceilings[PRECISIONS.index(row["precision"])], row


def test_products_are_formed_where_the_precision_says(rows: Rows) -> None:
    """By a warp group's tensor cores where float32 may be rounded, else by multiply-adds."""
    for row in (r for r in rows if r["kernel"] in ("_correlate", "_weight_gradient")):
        key, exact = (row["form"], row["kernel"]), row["precision"] == "fp32"
        code = row["code"]
        if key != VECTORS:
            assert (code["fused"] >= 128) == exact, row
            assert (code["group_products"] > 0) == (not exact and key != SMALL), row
            assert (code["products"] > code["group_products"]) == (not exact and key == SMALL), row


def test_three_products_of_tf32_parts_stand_for_one(rows: Rows) -> None:
    """Of a warp group's, of each launch."""
    found: dict[tuple[str, str], list[int]] = {}
    for row in (row for row in rows if row["code"]["group_products"]):
        key = row["precision"], f"{row['form']} {row['kernel']}"
        found.setdefault(key, []).append(row["code"]["group_products"])
    names = {name for precision, name in found if precision == "tf32"}
    assert len(names) >= 9
    for name in names:
        assert found["tf32x3", name] == [3 * count for count in found["tf32", name]], name


def test_nothing_is_kept_in_local_memory(rows: Rows) -> None:
    assert [row for row in rows if row["spilled"] or row["code"]["local"]] == []


def test_five_clients_fill_the_chip(rows: Rows) -> None:
    for row in rows:
        key = row["form"], row["kernel"]
        assert row["programs"] >= FEWER.get(key, MULTIPROCESSORS), row
