"""Columns of metrics in files: history.csv, states, resumed and swept runs, loggers, reports."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import recorded_rounds as rr

from fedfast import run_records
from fedfast.callbacks.loggers.values import numbers
from fedfast.cli import main
from fedfast.history import FIELDS, History, Row, read_runs
from fedfast.report.run_figures import metric_drawings, styles_of
from fedfast.report.summaries import number

CONFIG = """\
data: {name: digits}
partition: {name: iid, clients: 10}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, fedgloss: {}}
rounds: 3
participation: 0.4
batch_size: 50
threads: 1
metrics: [drift, delta_eps]
"""
OWN = """\
from fedfast.metrics.agreement import measures

@measures("longest")
def longest(seen):
    return seen.squares.max().sqrt()

def two(one, other):
    return 1.0
"""
MEASURED = ["drift_global", "drift_mean", "delta_eps", "delta_eps_cosine"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "measuring.py").write_text(OWN)
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def own_columns(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if name not in (*FIELDS, "algorithm")]


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = rr.simulation("fedgloss").run(progress=False)
    history.to_csv(tmp_path / "h.csv")
    read = History.from_csv(tmp_path / "h.csv")
    assert read.columns == history.columns
    assert repr([r.measured for r in read]) == repr([r.measured for r in history])
    frame = history.to_pandas()
    assert frame["delta_eps"].tolist()[1:] == read.column("delta_eps")[1:]
    assert math.isnan(read.column("delta_eps")[0])
    with pytest.raises(ValueError, match="name: expected one of round, .*drift_mean.* found 'drif"):
        read.column("drift")


def test_files_without_the_columns_are_read(tmp_path: Path) -> None:
    rr.simulation("fedavg", metrics=()).run(progress=False).to_csv(tmp_path / "old.csv")
    assert History.from_csv(tmp_path / "old.csv").columns == FIELDS
    frame = pd.read_csv(tmp_path / "old.csv").assign(note="good", share=[0.5, None, 1.0, 2.0])
    frame.to_csv(tmp_path / "more.csv")  # an index without a name, text, an empty cell
    found = History.from_csv(tmp_path / "more.csv")
    assert [row.measured for row in found] == [{"share": 0.5}, {}, {"share": 1.0}, {"share": 2.0}]
    assert math.isnan(found.column("share")[1])


def test_a_state_holds_the_columns_and_goes_on_with_them(tmp_path: Path) -> None:
    for name in ("fedgloss", "fedwmsam"):
        whole = rr.simulation(name).run(progress=False)
        first = rr.simulation(name, rounds=2)
        first.run(progress=False)
        first.save(tmp_path / name)
        rest = rr.simulation(name, chunk=2)
        rest.load(tmp_path / name)
        rest.run(progress=False)
        assert repr([r.measured for r in rest.history]) == repr([r.measured for r in whole])
        other = rr.simulation(name, metrics=["norm"])
        other.load(tmp_path / name)
        other.run(progress=False)
        assert list(other.history[-1].measured) == ["model_norm"]
        assert other.history.column("drift_mean")[:2] == whole.column("drift_mean")[:2]
        assert math.isnan(other.history.column("drift_mean")[3])


def test_a_run_folder_has_a_column_for_each(config: Path) -> None:
    assert main(["run", str(config), "--out", "whole", "--rounds", "4"]) == 0
    whole = pd.read_csv("whole/history.csv")
    assert own_columns(whole) == MEASURED
    assert whole.groupby("algorithm")["delta_eps"].count().to_dict() == {"fedavg": 0, "fedgloss": 3}
    assert main(["run", str(config), "--out", "parts"]) == 0
    assert main(["resume", "parts", "--rounds", "4"]) == 0
    parts = pd.read_csv("parts/history.csv")
    key = ["algorithm", "round"]
    pd.testing.assert_frame_equal(parts[[*key, *MEASURED]], whole[[*key, *MEASURED]])


def test_metrics_may_change_while_a_run_goes_on(config: Path) -> None:
    out = ["--out", "runs/changed"]
    assert main(["run", str(config), *out, "--metrics", "norm"]) == 0
    flags = ["--metrics", "norm,measuring:longest", "--rounds", "5"]
    assert main(["resume", "runs/changed", *flags]) == 0
    frame = pd.read_csv("runs/changed/history.csv")
    assert own_columns(frame) == ["model_norm", "longest"]
    assert frame["model_norm"].notna().all()
    assert frame["longest"].notna().tolist() == [False, False, False, True, True] * 2
    assert {label: len(h) for label, h in read_runs("runs/changed/history.csv").items()} == {
        "fedavg": 5,
        "fedgloss": 5,
    }


def test_rows_that_bring_a_column_are_appended(config: Path) -> None:
    """As they come: a process may be killed after any row."""
    from fedfast.runs.history_file import Appender, write

    write(Path(), {"a": History()})
    to = Appender(Path())
    to.append("a", Row(round=1))
    to.append("a", Row(round=2, measured={"x": 0.5}))
    assert read_runs("history.csv")["a"].column("x")[1] == 0.5
    to.append("a", Row(round=3))
    to.append("b", Row(round=1, measured={"y": 2.0, "x": 1.0}))
    to.close()
    runs = read_runs("history.csv")
    assert runs["b"][0].measured == {"x": 1.0, "y": 2.0}
    assert [row.round for row in runs["a"]] == [1, 2, 3]


@pytest.mark.parametrize(
    "flag, message",
    [
        ("cosin", "--metrics: unknown name 'cosin'; did you mean 'cosine'?"),
        ("measuring:longes", "did you mean 'longest'?"),
        ("measuring:two", "expected to be called with a round; missing a required argument"),
        ("drift,drift", "drift and drift both fill the column 'drift_global'"),
    ],
)
def test_what_is_wrong_is_said_before_data_are_read(
    config: Path, flag: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(config), "--metrics", flag]) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_sweeps_and_summaries_have_the_columns(config: Path) -> None:
    assert main(["sweep", str(config), "--seeds", "0,1", "--out", "sweep", "--jobs", "1"]) == 0
    files = sorted(Path("sweep").rglob("history.csv"))
    assert len(files) >= 2
    assert all(set(MEASURED) <= set(pd.read_csv(file).columns) for file in files)
    history = next(iter(read_runs(files[0]).values()))
    column = [v for v in history.column("drift_mean") if not math.isnan(v)]
    assert number(history, "drift_mean", "last") == column[-1]


def test_loggers_see_the_columns() -> None:
    row = rr.simulation("fedavg", rounds=1).run(progress=False)[0]
    found = numbers(row)
    assert found["cosine_global"] == row.measured["cosine_global"]
    assert "delta_eps" not in found  # nan


def test_a_report_draws_each_column(config: Path) -> None:
    """Of labels that have a value; one's own under its own name."""
    flags = ["--metrics", "drift,delta_eps,measuring:longest", "--rounds", "4"]
    assert main(["run", str(config), "--out", "runs/a", *flags]) == 0
    assert main(["report", "runs/a", "--format", "png"]) == 0
    page = Path("runs/a/report/report.html").read_text()
    assert "Distance of the server" in page and "Column longest, per round" in page
    groups = run_records.groups(run_records.records(["runs/a"]))
    drawn = {d.name: d.figure for d in metric_drawings(groups, styles_of(groups))}
    assert list(drawn) == [*(n.replace("_", "-") for n in MEASURED), "longest"]
    frame = pd.read_csv("runs/a/history.csv").set_index("algorithm")
    for name, labels in (("delta_eps", ["fedgloss"]), ("drift_mean", ["fedavg", "fedgloss"])):
        (ax,) = drawn[name.replace("_", "-")].axes
        lines = [line for line in ax.lines if len(line.get_xdata()) > 1]
        assert len(lines) == len(labels)
        for line, label in zip(lines, labels, strict=True):
            assert line.get_ydata().tolist() == pytest.approx(frame.loc[label, name].dropna())
        (low, high), values = ax.get_ylim(), frame.loc[labels, name].dropna()
        assert low < values.min() and values.max() < high
