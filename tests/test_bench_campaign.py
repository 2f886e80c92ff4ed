"""What a campaign on a GPU does with errors, time that runs out, and a device that is lost."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCH = Path(__file__).parent.parent / "bench"
sys.path.append(str(BENCH))

import gpu  # noqa: E402
import result_files  # noqa: E402
from gpu_sections.campaign import Campaign  # noqa: E402


class OutOfResources(Exception):
    """As Triton's, which is no RuntimeError."""


def campaign(folder: Path, device: str = "cpu") -> Campaign:
    return Campaign(torch.device(device), folder / "gpu.csv", False, {"date": "today"})


def rows(made: Campaign) -> list[dict[str, str]]:
    with made.path.open() as file:
        return list(csv.DictReader(file))


def test_what_fails_is_a_row_and_the_next_follows(tmp_path: Path) -> None:
    made, done = campaign(tmp_path), []
    for name in ("one", "two"):
        with made.trying(name):
            if name == "one":
                raise OutOfResources("shared memory\nof this program")
            done.append(name)
    (row,) = rows(made)
    assert (row["subject"], row["measure"]) == ("one", "failed")
    assert row["value"] == "OutOfResources: shared memory" and done == ["two"]


def test_time_that_runs_out_is_not_swallowed_by_what_is_tried(tmp_path: Path) -> None:
    made = campaign(tmp_path)
    with pytest.raises(gpu.OutOfTime), gpu.limit(0.05):
        while True:
            with made.trying("for ever"):
                [None for _ in range(1000)]
    assert not made.path.exists()


def test_a_lost_device_ends_the_campaign_and_names_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(made: Campaign) -> None:
        with made.trying("scatter"):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    monkeypatch.setattr(gpu, "import_module", lambda _: SimpleNamespace(run=broken))
    made = campaign(tmp_path, "cuda")
    given = argparse.Namespace(sections=["operations", "runs", "long"], budget=60.0)
    assert gpu._run(given, made)
    assert "to go on: --sections runs,long" in capsys.readouterr().out
    assert [row["measure"] for row in rows(made)] == ["failed", "section"]


def test_rows_have_a_commit_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    result_files.commit.cache_clear()
    try:
        assert result_files.commit() == "unknown"
    finally:
        result_files.commit.cache_clear()
