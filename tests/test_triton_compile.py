"""Every Triton kernel compiles for Ampere and Hopper with no GPU, spills nothing and streams wide.

Compilation runs in a process of its own without TRITON_INTERPRET, see `aot.py`.
"""

from __future__ import annotations

import compiled
import pytest
from compiled import Rows

triton = pytest.importorskip("triton", reason="Triton is not installed on this platform")

BANKS = {"_adam", "_mix", "_norm_blocks", "_move", "_descend", "_block_sums", "_columns", "_copy"}
BANKS |= {"tile_products", "_block_extents", "_block_changes"}
WRITING = {"_mix": 0, "_move": 0, "_descend": 0, "_columns": 2, "_copy": 0, "_images": 0}
# ... with so many partial sums
BESIDE = {"fetch copy": 2, "fetch crop": 2}  # a label and a count
SMALL = {"totals", "_layer_sums", "add_spans", "_layer_extents", "_layer_means"}  # partial sums
SMALL |= {"_advance", "_harmonize"}  # a few numbers of each client, or pair of them
SMALL |= {"_add_divergences"}
GAUSSIANS = {"_sample", "_sample_backward", "_sum"}
BYTES = {"_images"}  # reads of bytes, 4 a thread
ELEMENTS = {"_activate_block", "_differentiate_block", "_derive", "_drop"}
PRODUCTS = {"_product"}
THIN = {"_pieces", "_formed", "_apply"}  # products of thin factors
GRAMS = {"_inner", "_settle", "_reach", "_layer_reach", "_doubtful"}
WINDOWS = {"_pick", "_largest", "_mean", "_collect", "_cross_entropy"}
WINDOWS |= {"_kl_gradient"}
ROWS = {"_subtract", "_pull", "_copy_rows"}  # of classes and of words
STEPS = {"step_forward", "step_backward"}  # of sequences
OLD_SPILLS = {("squares fp32", "_product"): 8, ("cross_entropy 10", "_cross_entropy"): 8}  # bytes,
OLD_SPILLS |= {("ghost fp32", "_pieces"): 32, ("lowrank fp32", "_pieces"): 32}  # 3.6, of float64
SUMS = STEPS | {"_gather_words"} | THIN  # that hold products


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """One row per kernel, form, dtype and architecture."""
    return compiled.rows(tmp_path_factory, "aot.py", "80", "90")


@pytest.fixture(scope="module", params=["fp32", "fp64"])
def typed(rows: Rows, request: pytest.FixtureRequest) -> Rows:
    """The rows of one dtype with rows of memory a multiple of 64 elements apart, as in a run."""
    return [r for r in rows if r["dtype"] == request.param and r["aligned"]]


def test_every_kernel_is_covered(rows: Rows) -> None:
    known = BANKS | SMALL | BYTES | ELEMENTS | PRODUCTS | WINDOWS | GRAMS | ROWS | SUMS | GAUSSIANS
    assert {r["kernel"] for r in rows} == known
    assert {r["arch"] for r in rows} == {80, 90}
    assert {r["aligned"] for r in rows} == {True, False}


def test_nothing_spills(rows: Rows) -> None:
    most = OLD_SPILLS if triton.__version__.startswith("3.6.") else {}
    assert [r for r in rows if r["spilled"] > most.get((r["form"], r["kernel"]), 0)] == []


def test_no_product_is_fused_with_a_sum(rows: Rows) -> None:
    products = PRODUCTS | SUMS | ELEMENTS | ROWS  # and the device library's erf, log, float64 exp
    products |= GAUSSIANS
    assert [r for r in rows if r["fused"] and r["kernel"] in BANKS | SMALL] == []
    assert {r["kernel"] for r in rows if r["fused"]} <= products | {
        "_cross_entropy",
        "_kl_gradient",
    }


def test_pairs_are_products_of_float64_tensor_cores(rows: Rows) -> None:
    found = [r for r in rows if r["kernel"] == "tile_products"]
    assert {r["side"] for r in found} == {8, 16, 32}
    assert [r for r in found if not r["shapes"] or r["code"] and not r["code"]["products"]] == []


def test_tiles_of_every_size_add_columns_in_the_same_order(rows: Rows) -> None:
    """One shape of instruction, as often as a tile's products need it: columns are never split.

    Each element then has a chain of DEPTH / k of them, twice: in the main loop and behind it.
    """
    for arch in (80, 90):
        found = [r for r in rows if r["kernel"] == "tile_products" and r["arch"] == arch]
        assert len({tuple(shape) for r in found for shape in r["shapes"]}) == 1
        for row in found:
            m, n, k = row["shapes"][0]
            least = 16 if triton.__version__.startswith("3.6.") else m  # rows that it fills up to
            tile = max(row["side"], m, least) * max(row["side"], n) * row["depth"]
            assert len(row["shapes"]) * row["warps"] * m * n * k == 2 * tile, row


def test_streams_are_16_bytes_wide(typed: Rows) -> None:
    streaming = [r for r in typed if r["kernel"] in BANKS | ELEMENTS]
    assert [r for r in streaming if not r["wide_loads"]] == []
    writing = [r for r in typed if r["kernel"] in WRITING]
    narrow = [(r, r["stores"] - r["wide_stores"]) for r in writing]
    most = [WRITING[r["kernel"]] + BESIDE.get(r["form"], 0) for r in writing]
    assert [r for (r, stores), n in zip(narrow, most, strict=True) if stores > n] == []


def test_rows_of_four_clients_are_on_their_way_at_once(typed: Rows) -> None:
    """One load each, two in float64, and the two of a node that is joined with others."""
    rows = 4 if typed[0]["dtype"] == "fp32" else 8
    for row in (r for r in typed if r["kernel"] == "_columns" and r["arch"] == 90):
        assert row["in_flight"] >= rows + 2, row


def test_elements_are_written_16_bytes_at_a_time(typed: Rows) -> None:
    """All but the gradient of the bias."""
    written = [r for r in typed if r["kernel"] in ELEMENTS]
    bias = {"_derive": 2}  # and its squares
    assert [r for r in written if r["stores"] - r["wide_stores"] > bias.get(r["kernel"], 0)] == []


def test_products_copy_16_bytes_at_a_time(typed: Rows) -> None:
    """Rows of 36 and 68 floats too; Hopper turns TF32 operands on the way, one by one."""
    products = [r for r in typed if r["kernel"] in PRODUCTS and "lstm" not in r["form"]]
    turned = [r for r in products if r["form"] == "linear_backward tf32" and r["arch"] == 90]
    narrow = [r for r in products if not 0 < r["copies"] == r["wide_copies"]]
    assert [r for r in narrow if r not in turned] == []
    large = [r for r in products if not r["form"].startswith("squares")]
    assert [r for r in large if r["stores"] != r["wide_stores"]] == []


def test_thin_factors_are_read_16_bytes_at_a_time(typed: Rows) -> None:
    """Rows of 36 and 68 floats; of a Gram matrix of 12 samples each thread has a number or two."""
    for row in (r for r in typed if r["kernel"] == "_pieces"):
        assert 0 < row["copies"] == row["wide_copies"], row
    for row in (r for r in typed if r["kernel"] == "_apply"):
        assert row["wide_copies"] > 0 and row["stores"] == row["wide_stores"], row


def test_logits_are_read_and_written_16_bytes_at_a_time(typed: Rows) -> None:
    """Rows of 1000 classes, in parts: all stores but that of the part's loss."""
    for row in (r for r in typed if r["form"] == "cross_entropy 1000"):
        if row["kernel"] == "_cross_entropy":
            assert row["wide_loads"] > 0 and row["stores"] == row["wide_stores"] + 1, row


def test_sequences_are_read_and_written_16_bytes_at_a_time(typed: Rows) -> None:
    """Rows of 36 hidden units, 100 numbers of a vector, 1000 classes."""
    for row in (r for r in typed if r["kernel"] in (ROWS | SUMS) - THIN):
        assert row["wide_loads"] > 0 and row["stores"] == row["wide_stores"], row
        assert row["copies"] == row["wide_copies"], row


def test_steps_of_a_sequence_use_tensor_cores_where_permitted(rows: Rows) -> None:
    """All but the first step forward and the last backward, which multiply nothing."""
    for kernel in STEPS:
        for row in (r for r in rows if r["kernel"] == kernel and r["dtype"] == "fp32"):
            assert row["tensor_cores"] == 0 or not row["form"].endswith("fp32"), row
        for precision in ("tf32x3", "tf32"):
            some = [r for r in rows if r["kernel"] == kernel and r["form"].endswith(precision)]
            assert {r["arch"] for r in some if r["tensor_cores"]} == {80, 90}


def test_tensor_cores_cut_operands_off(rows: Rows) -> None:
    """As `tensor_cores.py` does: nothing rounds them to TF32 on their way."""
    assert [r for r in rows if r["rounded"]] == []


@pytest.mark.parametrize("arch", [80, 90])
def test_a_product_is_three_of_tf32_parts(rows: Rows, arch: int) -> None:
    """No fewer; on Hopper, where warps share a tile of 64 rows, no more."""
    both = {r["form"]: r for r in rows if r["arch"] == arch and r["kernel"] == "_product"}
    three, one = (both[f"linear {name}"]["tensor_cores"] for name in ("tf32x3", "tf32"))
    assert three >= 3 * one > 0 and (arch == 80 or three == 3 * one)


def test_tensor_cores_only_where_permitted(rows: Rows) -> None:
    for row in (r for r in rows if r["kernel"] in PRODUCTS | THIN):
        exact = row["dtype"] == "fp32" and row["form"].endswith("fp32")
        assert (row["tensor_cores"] == 0) == exact, row
        assert row["fused"] > 0 or not exact, row


def test_registers_leave_room_for_two_blocks_of_threads(typed: Rows) -> None:
    """65536 registers: 2 programs of 256 threads fit up to 128 each, for up to eight terms."""
    if typed[0]["dtype"] == "fp32":
        found = [r for r in typed if r["kernel"] not in PRODUCTS | SUMS]
        pairs = [r for r in found if r["form"] == "gram many"]  # of 128 threads, three fit
        assert max(r["registers"] for r in found if r not in pairs) <= 128
        assert max(r["registers"] for r in pairs) <= 168
