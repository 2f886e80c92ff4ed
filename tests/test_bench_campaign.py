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
from gpu_sections import compiling  # noqa: E402
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


def test_a_second_call_has_the_figures_of_the_first_and_keeps_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = campaign(tmp_path)
    first.row("W2", "round", 1.5, "ms")
    first.row("machine", "GPU", "some")
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "bench" / "gpu.py"))
    kept = tmp_path / "bench" / "results" / "gpu.csv"
    kept.parent.mkdir(parents=True)
    gpu._keep(first.path, 0)
    second = campaign(tmp_path)
    before = second.known()
    second.row("W3", "round", 2.5, "ms")
    gpu._keep(second.path, before)
    assert second.figures == {("W2", "round"): 1.5, ("W3", "round"): 2.5}
    assert kept.read_text() == second.path.read_text()


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


def test_sections_that_fail_or_last_too_long_are_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next one follows; compilers are stopped before those that time the host."""
    stopped: list[object] = []

    def broken(_: Campaign) -> None:
        raise ValueError("no such layer")

    def slow(_: Campaign) -> None:
        while True:
            [None for _ in range(1000)]

    does = {"gpu_sections.kernels": broken, "gpu_sections.rounds": slow}
    monkeypatch.setattr(gpu, "import_module", lambda name: SimpleNamespace(run=does[name]))
    monkeypatch.setattr(compiling, "end", lambda started: stopped.extend(started) or len(started))
    made = campaign(tmp_path)
    given = argparse.Namespace(sections=["kernels", "rounds"], budget=0.2)
    assert gpu._run(given, made, ["compiler"])
    ended = [row["value"] for row in rows(made) if row["measure"] in ("section", "stopped")]
    assert ended == ["ValueError: no such layer", "1", "out of time"] and stopped == ["compiler"]
    assert "no such layer" in capsys.readouterr().err


def test_calls_that_make_no_sense_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in (["--sections", "machine,rooms"], ["--rehearse", "--write"]):
        with pytest.raises(SystemExit):
            gpu.main(given)
        assert ("rooms" if given[0] == "--sections" else "--rehearse") in capsys.readouterr().err
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--sections", "machine"]) == 2
