"""`fedfast compare` as its users see it: tables on stdout, one line for each mistake."""

import json

import pytest
from run_folders import history, write_run

from fedfast.cli import main
from fedfast.history import History, Row


@pytest.fixture
def runs(tmp_path):
    """Two labels, three seeds, one of them damaged."""
    for seed in range(3):
        curves = {
            "fedavg": history([0.1, 0.3, 0.5, 0.6 + seed / 50]),
            "fedsam": history([0.2, 0.5, 0.6, 0.7 - seed / 50]),
        }
        write_run(tmp_path / "runs" / f"seed-{seed}", curves, seed=seed)
    (tmp_path / "runs" / "seed-2" / "history.csv").write_text("round\n")
    return tmp_path / "runs"


def run(capsys, *argv):
    status = main(["compare", *map(str, argv)])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_table_and_what_was_left_out(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    status, out, err = run(capsys, runs, "--target", "50%", "--last", 1)
    assert status == 0 and max(map(len, out.split("\n"))) <= 100
    fedsam = next(line for line in out.split("\n") if line.strip().startswith("fedsam"))
    cells = fedsam.split()
    assert cells[:5] == ["fedsam", "2", "69.00", "±", "1.41"]
    assert cells[-5:] == ["2", "0.67×", "3", "kB", "0.67×"]  # after round 2, not 3
    assert err.count("\n") == 1 and err.startswith("fedfast: ") and "seed-2/history.csv" in err


def test_formats_by_flag_and_by_suffix(runs, capsys, tmp_path):
    for kind, suffix, first in (
        ("markdown", "md", "| group |"),
        ("latex", "tex", "\\begin{table}"),
        ("csv", "csv", "group,setting,seeds"),
        ("json", "json", "{"),
        ("table", "txt", " "),
    ):
        path = tmp_path / "new" / f"table.{suffix}"
        status, out, _ = run(capsys, runs, "--out", path)
        assert (status, out) == (0, f"{path}\n") and path.read_text().startswith(first)
        if kind != "table":  # which has the width of the terminal, not of a file
            assert run(capsys, runs, "--format", kind)[1] == path.read_text()
    assert json.loads((tmp_path / "new" / "table.json").read_text())["groups"][0]["seeds"] == 2


def test_a_baseline_of_choice(runs, capsys):
    found = json.loads(run(capsys, runs, "--baseline", "fedsam", "--format", "json")[1])
    assert {group["baseline"] for group in found["groups"]} == {"fedsam"}


def test_a_mode_says_whether_more_is_better(tmp_path, capsys):
    """A loss that rises as accuracies do is compared as these are, once more of it is better."""
    for seed in range(3):
        rising = {
            "fedavg": [0.1, 0.3, 0.6, 0.5 + seed / 50],
            "fedsam": [0.2, 0.5, 0.7, 0.6 - seed / 50],
        }
        curves = {
            label: History(Row(t, accuracy=a, loss=a) for t, a in enumerate(values, start=1))
            for label, values in rising.items()
        }
        write_run(tmp_path / f"seed-{seed}", curves, seed=seed)

    def found(*argv):
        given = json.loads(run(capsys, tmp_path, *argv, "--last", 1, "--format", "json")[1])
        return {group.pop("group"): group for group in given["groups"]}

    usual, more = found("--metric", "accuracy"), found("--metric", "loss", "--mode", "max")
    less = found("--metric", "loss", "--mode", "min")
    assert less == found("--metric", "loss") == found("--metric", "loss", "--mode", "auto")
    for label, group in more.items():
        assert group["rounds_to_target"] == usual[label]["rounds_to_target"]
        assert group["target"] == pytest.approx(usual[label]["target"] / 100)
        assert group["best"] == pytest.approx(usual[label]["best"] / 100)
        assert group["best"] > less[label]["best"]
    text = run(capsys, tmp_path, "--metric", "loss", "--mode", "max", "--format", "latex")[1]
    assert "(the highest that more than half" in text
    assert r"\bfseries 0.7000" in text and r"\bfseries 0.6000" not in text


@pytest.mark.parametrize(
    ("argv", "match"),
    [
        ([], "expected folders of runs"),
        (["--target", "0.5"], "expected folders of runs"),
        (["RUNS", "--targte", "0.5"], "--targte'; did you mean '--target'"),
        (["RUNS", "--target", "80"], "did you mean 80%?"),
        (["RUNS", "--target"], "--target: expected one argument"),
        (["RUNS", "--last", "ten"], "--last: invalid int value: 'ten'"),
        (["RUNS", "--last", "0"], "last: expected at least 1"),
        (["RUNS", "--format", "markdwon"], "did you mean 'markdown'"),
        (["RUNS", "--mode", "maximum"], "--mode: unknown name 'maximum'; did you mean 'max'?"),
        (["RUNS", "--baseline", "fedavgm"], "did you mean 'fedavg'"),
        (["RUNS", "--metric", "personal_accuracy"], "they have accuracy, loss"),
        (["RUNS", "--out", "RUNS"], "--out: cannot write RUNS: Is a dir"),
        (["nowhere"], "nowhere: expected a folder of runs, found nothing"),
        (["RUNS/seed-2"], "lacks"),
    ],
)
def test_mistakes_are_one_line(runs, capsys, argv, match):
    status, out, err = run(capsys, *(word.replace("RUNS", str(runs)) for word in argv))
    last = err.rstrip("\n").split("\n")[-1]
    assert (
        status == 2
        and out == ""
        and last.startswith("fedfast: ")
        and match.replace("RUNS", str(runs)) in last
    )
    assert "Traceback" not in err and (not argv or err.count("\n") <= 2)  # the damaged run's, ours


def test_help_names_every_flag(capsys):
    status, out, err = run(capsys, "--help")
    assert status == 0 and err == ""
    flags = "target", "baseline", "last", "metric", "mode", "format", "out", "equal"
    for flag in (f"--{name}" for name in flags):
        assert flag in out
