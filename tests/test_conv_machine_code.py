"""Convolutions of real size on Hopper, compiled without one: what their machine code may take.

Compilation runs in a process of its own without TRITON_INTERPRET, see `conv_machine_code.py`.
"""

from __future__ import annotations

import compiled
import pytest
from compiled import Rows

pytest.importorskip("triton", reason="Triton is not installed on this platform")

MULTIPROCESSORS = 132
# Instructions of the longest inner loop, by kernel and precision: with many channels, with few.
# Where all taps are taken together addresses and margins cost more, but there are few terms.
CEILINGS = {
    ("_correlate", "fp32"): (700, 600),
    ("_correlate", "tf32"): (185, 320),
    ("_weight_gradient", "fp32"): (930, 525),
    ("_weight_gradient", "tf32"): (500, 480),
}
# Fills all but seven of them with five clients: 25 taps of 32 channels each, and parts would add
# the sums of 50 images for the sake of a twentieth. What moves little needs few.
FEWER = {("W1 second backward", "_weight_gradient"): 125}
FEWER |= {("W4 second backward", "_weight_gradient"): 125}
FEWER |= {("W1 first backward", "_add_parts"): 10, ("W1 first backward", "_pack"): 5}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return compiled.rows(tmp_path_factory, "conv_machine_code.py")


def test_instructions_of_a_loop_stay_below_their_ceilings(rows: Rows) -> None:
    for row in rows:
        many, few = CEILINGS.get((row["kernel"], row["precision"]), (0, 0))
        ceiling = few if row["form"].startswith("W1 first") else many
        assert row["code"]["loop"] <= ceiling, row


def test_products_are_formed_where_the_precision_says(rows: Rows) -> None:
    """By tensor cores under TF32, by fused multiply-adds in float32."""
    for row in (r for r in rows if r["kernel"] in ("_correlate", "_weight_gradient")):
        vectors = row["form"] == "W1 first backward" and row["kernel"] == "_correlate"
        if not vectors:  # the gradient of one channel needs no matrix product
            assert (row["code"]["products"] > 0) == (row["precision"] == "tf32"), row
            assert (row["code"]["fused"] >= 128) == (row["precision"] == "fp32"), row


def test_nothing_is_kept_in_local_memory(rows: Rows) -> None:
    assert [row for row in rows if row["spilled"] or row["code"]["local"]] == []


def test_five_clients_fill_the_chip(rows: Rows) -> None:
    for row in rows:
        key = row["form"], row["kernel"]
        assert row["programs"] >= FEWER.get(key, MULTIPROCESSORS), row
