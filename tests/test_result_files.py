"""Rows of benchmarks: a file keeps its columns, whatever is appended."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

import result_files  # noqa: E402


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results"
    monkeypatch.setattr(result_files, "RESULTS", folder)
    return folder


def test_rows_follow_the_columns_of_the_file(results: Path) -> None:
    result_files.append("speed", {"form": "sgd", "ms": 1.5})
    result_files.append("speed", {"ms": 2.5, "form": "sam"}, {"form": "adam", "ms": 3.5})
    assert (results / "speed.csv").read_text() == "form,ms\nsgd,1.5\nsam,2.5\nadam,3.5\n"


@pytest.mark.parametrize("row", [{"form": "sam"}, {"form": "sam", "ms": 1, "gb": 2}])
def test_other_columns_are_refused_and_nothing_is_written(results: Path, row: dict) -> None:
    result_files.append("speed", {"form": "sgd", "ms": 1.5})
    with pytest.raises(ValueError, match=r"speed\.csv: expected columns .*'ms'"):
        result_files.append("speed", {"form": "asam", "ms": 2.0}, row)
    assert (results / "speed.csv").read_text() == "form,ms\nsgd,1.5\n"


@pytest.mark.parametrize("path", sorted(result_files.RESULTS.glob("*.csv")), ids=lambda p: p.stem)
def test_every_committed_row_is_whole_and_stamped(path: Path) -> None:
    with path.open(newline="") as file:
        columns, *rows = csv.reader(file)
    assert path.stem == "algorithms" or columns[:5] == list(result_files.stamp(1))
    assert rows and all(len(row) == len(columns) for row in rows)
