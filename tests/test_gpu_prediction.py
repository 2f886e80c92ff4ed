"""The tables of docs/gpu.md are what `bench/gpu_prediction.py` prints.

Launches are counted here for W2 alone, which takes a second; `make bench-smoke` counts all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fedfast.kernels.triton import common

pytest.importorskip("triton", reason="Triton is not installed on this platform")
ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "bench"))

import gpu_prediction  # noqa: E402
from workloads import Workload  # noqa: E402

pytestmark = pytest.mark.skipif(not common.INTERPRETED, reason="a device is there")
PAGE = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")


def beginning(lines: list[str]) -> str:
    """Of a table that has so many lines, in the page."""
    (where,) = [i for i, line in enumerate(PAGE.splitlines()) if line == lines[0]]
    return "\n".join(PAGE.splitlines()[where : where + len(lines)])


def test_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    count = gpu_prediction.launches
    said = [line.split("|")[1:3] for line in PAGE.splitlines() if ", K = " in line]
    known = {row.strip().rsplit(", K", 1)[0]: launches for row, launches in said}

    def launches(work: Workload, algorithm: str) -> int:
        if work.name == "W2":
            return count(work, algorithm)
        return int(known[f"{work.name}, {algorithm}"])

    monkeypatch.setattr(gpu_prediction, "launches", launches)
    lines = list(gpu_prediction.table())
    assert len(lines) == 14 and beginning(lines) == "\n".join(lines)


def test_thin_factors() -> None:
    lines = list(gpu_prediction.saved())
    assert len(lines) == 8 and beginning(lines) == "\n".join(lines)
