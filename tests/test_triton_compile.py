"""Every Triton kernel compiles for Ampere and Hopper with no GPU, spills nothing and streams wide.

Compilation runs in a process of its own without TRITON_INTERPRET, see `aot.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed on this platform")

STREAMING = {"_mix", "_norm_blocks", "_move", "_descend", "_block_sums", "_columns", "_copy"}
WRITING = {
    "_mix": 0,
    "_move": 0,
    "_descend": 0,
    "_columns": 2,
    "_copy": 0,
    "_images": 0,
}  # with so many partial sums
SMALL = {"totals", "_layer_sums"}  # they add partial sums
BYTES = {"_images"}  # reads of bytes, 4 a thread


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """One row per kernel, form, dtype and architecture."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_INTERPRET")}
    script = Path(__file__).with_name("aot.py")
    done = subprocess.run(
        [sys.executable, str(script), "80", "90"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module", params=["fp32", "fp64"])
def typed(rows: list[dict[str, Any]], request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The rows of one dtype with rows of memory a multiple of 64 elements apart, as in a run."""
    return [r for r in rows if r["dtype"] == request.param and r["aligned"]]


def test_every_kernel_is_covered(rows: list[dict[str, Any]]) -> None:
    assert {r["kernel"] for r in rows} == STREAMING | SMALL | BYTES
    assert {r["arch"] for r in rows} == {80, 90}
    assert {r["aligned"] for r in rows} == {True, False}


def test_nothing_spills(rows: list[dict[str, Any]]) -> None:
    assert [r for r in rows if r["spilled"]] == []


def test_no_product_is_fused_with_a_sum(rows: list[dict[str, Any]]) -> None:
    assert [r for r in rows if r["fused"]] == []


def test_streams_are_16_bytes_wide(typed: list[dict[str, Any]]) -> None:
    streaming = [r for r in typed if r["kernel"] in STREAMING]
    assert [r for r in streaming if not r["wide_loads"]] == []
    writing = [r for r in typed if r["kernel"] in WRITING]
    assert [r for r in writing if r["stores"] - r["wide_stores"] > WRITING[r["kernel"]]] == []


def test_registers_leave_room_for_two_blocks_of_threads(typed: list[dict[str, Any]]) -> None:
    """65536 registers: 2 programs of 256 threads fit up to 128 each, for up to eight terms."""
    if typed[0]["dtype"] == "fp32":
        assert max(r["registers"] for r in typed) <= 128
