"""Every form of every operation launches: Triton binds, specialises and compiles what it is given.

The interpreter binds no argument, so launching runs in a process of its own without
TRITON_INTERPRET, see `launches.py`. `make test-triton36` runs this under the oldest Triton.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import compiled
import pytest
import torch
from fedfast.kernels._args import PRECISIONS
from fedfast.kernels.triton import common

from fedfast import kernels

pytest.importorskip("triton", reason="Triton is not installed on this platform")

PLAIN = {
    "Column",
    "Counted",
    "Lanes",
    "PlacedRows",
    "Plan",
    "Segments",
    "Server",
    "Soon",
    "StepsCall",
    "cosines",
    "feed",
    "norms",
    "tally",
    "turn",
    "OPERATIONS",
}
MAKES = {"float32", "float64", "ones", "far"}
# Kernels that read and write only what is allocated in one piece for them.
PIECES = {"_layer_sums", "_layer_extents", "_layer_means", "add_spans", "totals", "_reach"}
PIECES |= {"_doubtful", "_settle", "_advance", "_harmonize", "_add_divergences"}
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def printed() -> Rows:
    """One row per launch, and what was not launched."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_INTERPRET")}
    command = [sys.executable, str(Path(__file__).with_name("launches.py"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def rows(printed: Rows) -> Rows:
    return printed[:-1]


def test_every_kernel_is_launched(printed: Rows) -> None:
    assert printed[-1] == {"missing": [], "unknown": []}


def test_every_public_operation_is_launched(rows: Rows) -> None:
    beside = {"harmonize"}  # which FedGH's server alone asks for
    assert {r["operation"] for r in rows} == set(kernels.__all__) - PLAIN | beside


def test_every_kernel_takes_every_kind_of_operand(rows: Rows) -> None:
    launched = {make: {r["kernel"] for r in rows if r["make"] == make} for make in MAKES}
    assert all(found == launched["float32"] for found in launched.values())


def test_every_precision_is_launched(rows: Rows) -> None:
    products = "linear", "linear_backward", "conv", "conv_backward", "lstm"
    for operation in (*products, "ghost", "joined", "lowrank"):
        forms = [r["form"] for r in rows if r["operation"] == operation]
        for precision in PRECISIONS:
            assert any(f"precision={precision} " in f"{form} " for form in forms), operation


def test_strides_above_31_bits_stay_whole(rows: Rows) -> None:
    """Clients 2^31 elements apart: every kernel that takes a stride takes it in 64 bits."""
    wide = {r["kernel"] for r in rows if r["make"] == "far" and r["wide"]}
    every = {r["kernel"] for r in rows}
    assert {name.rsplit(".")[-1] for name in every - wide} <= PIECES


def test_what_launches_name_are_constants(rows: Rows) -> None:
    """Sizes of tiles, forms, precisions: all but tensors and the numbers that differ by call."""
    assert [r for r in rows if r["variable"]] == []


def test_a_missing_constexpr_is_found() -> None:
    """Of every kernel, each of its own: it does not compile, or it does, and is noticed."""
    planted = compiled.parsed(compiled.printed("planted_constants.py"))
    assert {r["refused"] for r in planted} == {True, False}
    assert [r for r in planted if not r["refused"] and r["variable"] != [r["constant"]]] == []
    assert {r["kernel"] for r in planted} >= {"_product", "_descend", "_cross_entropy", "_advance"}


def test_nothing_is_launched_for_nothing() -> None:
    """A grid of no programs is an error on a device."""
    common.launch(None, 0, torch.zeros(0))


def test_more_elements_than_32_bits_count_are_refused() -> None:
    bank = torch.empty(2, common.MOST_ELEMENTS + 1, device="meta")
    common.require(bank[:, 1:])
    with pytest.raises(ValueError, match="elements of a client"):
        kernels.mix(bank, bank, backend="triton")


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_operations_on_nothing_give_nothing(shape: tuple[int, int]) -> None:
    bank = torch.zeros(shape)
    assert kernels.mix(bank, bank, backend="triton").shape == shape
    assert kernels.activation(bank, "relu", backend="triton").shape == shape
    seeds = torch.zeros(shape[0], dtype=torch.int64)
    assert kernels.dropout(bank, 0.5, seeds, backend="triton").shape == shape
    assert kernels.step(bank, bank, 0.1, clip_norm=1.0, backend="triton").shape == shape
