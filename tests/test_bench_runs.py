"""The committed runs of `make bench`: small, complete, and read by pytest-benchmark itself."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "bench" / "results"
sys.path.insert(0, str(RESULTS.parent))

import compare  # noqa: E402
import rates  # noqa: E402

RUNS = sorted(RESULTS.glob("*/*.json"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_a_run_says_what_it_measured_and_no_more(path):
    run = json.loads(path.read_text())
    assert "node" not in run["machine_info"] and path.stat().st_size < 1.5e3 * len(
        run["benchmarks"]
    )
    for one in run["benchmarks"]:
        assert "data" not in one["stats"] and one["stats"]["rounds"] >= 1 and one["group"]
        extra = one["extra_info"]
        assert extra["threads"] >= 1 and extra["commit"] and extra["cpu"]
        assert set(extra["yardsticks"]) == {"sgemm", "copy"}


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_the_plugins_own_comparison_reads_it(path, tmp_path):
    """Its table of the run and a copy, as CSV, has every benchmark twice, with the file's stats."""
    script = Path(sys.executable).with_name("pytest-benchmark")
    out, copy = tmp_path / "out.csv", shutil.copy(path, tmp_path / "0002_copy.json")
    done = subprocess.run(
        [script, "compare", path, copy, "--columns=min,median", f"--csv={out}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with out.open(newline="") as file:
        table = list(csv.DictReader(file))
    stats = {one["fullname"]: one["stats"] for one in json.loads(path.read_text())["benchmarks"]}
    assert len(table) == 2 * len(stats)
    for row in table:
        theirs = float(row["min"]), float(row["median"])
        assert theirs == tuple(stats[row["name"]][key] for key in ("min", "median"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_ours_find_nothing_changed_between_a_run_and_itself(path, capsys):
    assert compare.main([str(path), str(path)]) == 0
    ours = compare.ours(path)
    assert f"{len(ours)} benchmarks in both: 0 slower and 0 faster" in capsys.readouterr().out


def test_rates_are_work_over_time(tmp_path, capsys):
    """Of made numbers: 2 GB in 0.1 s beside a copy at 40 GB/s, foreach at half the speed."""
    yardsticks = {name: {"best": 5e10, "median": 4e10} for name in ("copy", "sgemm")}

    def made(contestant, seconds):
        return {
            "fullname": f"t[{contestant}]",
            "group": "step sgd, threads: 1",
            "params": {"contestant": contestant},
            "stats": dict.fromkeys(("min", "q1", "median", "q3"), seconds),
            "extra_info": {"bytes": 2_000_000_000, "yardsticks": yardsticks},
        }

    run = tmp_path / "run.json"
    run.write_text(json.dumps({"benchmarks": [made("fedfast", 0.1), made("foreach", 0.2)]}))
    assert rates.main([str(run)]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "sgd" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["step sgd, threads: 1", "100", "20.0 GB/s", "50%", "foreach 2.00"]
