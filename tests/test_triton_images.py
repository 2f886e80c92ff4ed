"""The kernels of convolutions and norms compile for Ampere and Hopper with no GPU; see `aot.py`."""

from __future__ import annotations

import compiled
import pytest
from compiled import Rows

pytest.importorskip("triton", reason="Triton is not installed on this platform")

PRODUCTS = {"_correlate", "_weight_gradient"}
NORMS = {"_normalise", "_pull", "_affine"}
TAPS = {"_pack", "_add_parts", "_put_back"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """One row per kernel, form, dtype and architecture."""
    return compiled.rows(tmp_path_factory, "aot_images.py")


def of(rows: Rows, form: str, *kernels: str) -> Rows:
    """Some rows of a layer, at least one."""
    found = [r for r in rows if form in r["form"] and r["kernel"] in kernels]
    assert found
    return found


def test_every_kernel_is_covered(rows: Rows) -> None:
    assert {r["kernel"] for r in rows} == PRODUCTS | NORMS | TAPS | {"_slope", "totals"}
    assert {r["arch"] for r in rows} == {80, 90}
    assert {r["dtype"] for r in rows} == {"fp32", "fp64"}


def test_nothing_spills(rows: Rows) -> None:
    assert [r for r in rows if r["spilled"]] == []


def test_registers_leave_room_for_four_programs_that_stream(rows: Rows) -> None:
    """65536 registers, programs of 128 threads; Triton 3.6 and 3.9 differ in the products'."""
    streaming = [r["registers"] for r in rows if r["kernel"] not in PRODUCTS]
    assert max(streaming) <= 65536 // (4 * 128)


def test_tensor_cores_only_where_permitted(rows: Rows) -> None:
    """float64 has tensor cores of its own precision; one channel a group is no matrix."""
    for row in (r for r in rows if r["kernel"] in PRODUCTS):
        rough = any(precision in row["form"] for precision in ("tf32", "bf16"))
        permitted = row["dtype"] == "fp64" or rough
        assert (row["tensor_cores"] > 0) == permitted, row
        assert (row["fused"] > 0) == (not permitted and "depthwise" not in row["form"]), row


def test_sums_outside_of_products_are_not_fused(rows: Rows) -> None:
    assert [r for r in rows if r["fused"] and r["kernel"] not in PRODUCTS] == []


def test_wherever_pixels_are_neighbours_accesses_are_16_bytes_wide(rows: Rows) -> None:
    """14 x 14 pixels are a multiple of 4 floats, though not of 16."""
    for row in of(rows, "conv 3x3", "_correlate"):
        assert row["wide_copies"] > 0 and row["stores"] == row["wide_stores"], row
    for row in of(rows, "conv_backward 3x3", *PRODUCTS):
        assert row["stores"] == row["wide_stores"], row
    for row in of(rows, "conv_backward 3x3", "_weight_gradient"):
        assert row["wide_copies"] > 0, row
    for row in of(rows, "3x3", "_slope") + of(rows, "batch_norm", *NORMS):
        assert row["wide_loads"] > 0 and row["wide_stores"] > 0, row
    for row in of(rows, "group_norm", "_normalise", "_pull"):
        assert row["wide_loads"] > 0 and row["wide_stores"] > 0, row
