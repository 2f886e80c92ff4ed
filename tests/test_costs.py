"""`fedfast bench algorithms`: its table, its rows, its refusals; no time is checked."""

from __future__ import annotations

import csv

import pytest

from fedfast.cli import main
from fedfast.metrics.agreement import ROUND_METRICS
from fedfast.report import costs


@pytest.fixture
def small(monkeypatch):
    """A federation on which a round takes milliseconds."""
    for name, value in dict(CLIENTS=6, SAMPLES=8, COHORT=3, BATCH=4).items():
        monkeypatch.setattr(costs, name, value)


def test_every_named_algorithm_has_its_row(small, tmp_path, capsys):
    out = tmp_path / "made"
    argv = ["bench", "algorithms", "--only", "fedsam,fedsgd", "--rounds", "2", "--model", "mlp"]
    assert main([*argv, "--out", str(out)]) == 0
    rows = list(csv.DictReader((out / "algorithms.csv").read_text().splitlines()))
    assert [(r["algorithm"], r["gradients"]) for r in rows] == [("fedsam", "2"), ("fedsgd", "1")]
    for row in rows:
        assert 0 < float(row["low"]) <= float(row["ratio"]) <= float(row["high"])
    assert (out / "algorithms.png").read_bytes().startswith(b"\x89PNG")
    assert "times FedAvg" in capsys.readouterr().out


def test_every_metric_has_its_row(small, tmp_path, capsys):
    out = tmp_path / "made"
    assert main(["bench", "metrics", "--rounds", "2", "--model", "mlp", "--out", str(out)]) == 0
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert [r["metric"] for r in rows] == [*ROUND_METRICS, "all"]
    carried = {r["metric"]: r["algorithm"] for r in rows}
    assert carried["delta_eps"] == "fedgloss" and carried["momentum"] == "fedcm"
    for row in rows:
        assert 0 < float(row["low"]) <= float(row["ratio"]) <= float(row["high"])
    assert "ms without" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["operations"], "expected 'algorithms' or 'metrics' first, found 'operations'"),
        (["algorithms", "--only", "fedsan"], "did you mean 'fedsam'"),
        (["metrics", "--only", "cosin"], "metrics: unknown name 'cosin'; did you mean 'cosine'"),
        (["algorithms", "--rounds", "0"], "rounds: expected at least 1; got 0"),
    ],
)
def test_wrong_use_is_an_error_of_one_line(small, argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *argv]) == 2
    assert message in capsys.readouterr().err
