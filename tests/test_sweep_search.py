"""`fedfast sweep --search`: Optuna finds what a closed form says, and finds it again."""

import math
import re
import sys
from pathlib import Path

import pytest

from fedfast import config as configs
from fedfast.cli import main
from fedfast.history import History, Row
from fedfast.sweep import pool, results, work
from fedfast.sweep.search import choice
from fedfast.sweep.work import Outcome

optuna = pytest.importorskip("optuna")

TINY = """\
data: {name: digits}
partition: {name: dirichlet, clients: 6, alpha: 0.5}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, sharp: {name: fedsam, rho: 0.05}}
rounds: 1
"""
BEST = 0.03


def accuracy(config):
    """Highest where lr is BEST, whatever the seed; worse by a tenth for the larger model."""
    wide = config.model.options()["hidden"] == [9, 9]
    return 0.9 - 0.1 * abs(math.log10(config.lr / BEST)) - 0.1 * wide + 1e-3 * config.seed


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Rows that were trained, which here takes no time and gives `accuracy`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    rows = []

    def run(self, waiting, look):
        for row in waiting:
            rows.append(row)
            yield row, Outcome("failed", "no") if row.config.lr > 0.8 else Outcome("done")

    def result(row, status, error=""):
        status = "diverged" if row.config.lr < 2e-3 else status
        reached = accuracy(row.config)
        one = Row(1, accuracy=reached, loss=1.0, seconds=0.0, measured={"drift_mean": reached})
        return results.Result(row, status, error, History([one]))

    monkeypatch.setattr(pool.Pool, "run", run)
    monkeypatch.setattr(results, "result", result)
    monkeypatch.setattr(work, "is_done", lambda row: row.folder in {r.folder for r in rows})
    return rows


SEARCH = [
    "sweep",
    "tiny.yaml",
    "--search",
    "lr=0.001..1:log",
    "--search",
    "model.hidden=[8]|[9, 9]",
]


def found(rows):
    return [(r.label, r.config.lr, r.config.model.options()["hidden"], r.seed) for r in rows]


def test_a_search_finds_the_best_and_finds_it_again(trained, capsys):
    flags = ["--trials", "30", "--seeds", "0,2", "--jobs", "2"]
    status = main([*SEARCH, *flags, "--out", "a"])
    first, trained[:] = found(trained), []
    shown = capsys.readouterr().out
    for label in ("fedavg", "sharp"):
        best = rf"{label}: best of 30 trials is .*accuracy ([\d.]+), mean.*lr=([\d.]+)"
        line = re.search(best, shown)
        assert abs(math.log10(float(line[2]) / BEST)) < 0.15
        best = max(accuracy_of(first, label))
        assert float(line[1]) == pytest.approx(100 * best, abs=0.01)
    assert status == (1 if any(lr > 0.8 for _, lr, _, _ in first) else 0)
    assert len(first) == 2 * 2 * 30 and {seed for *_, seed in first} == {0, 2}
    assert main([*SEARCH, *flags, "--out", "b"]) == status
    assert found(trained) == first


def accuracy_of(rows, label):
    """The mean over the two seeds of each trial of a label that was told to Optuna."""
    for name, lr, hidden, seed in rows:
        if name == label and seed == 0 and 2e-3 <= lr <= 0.8:
            yield 0.9 - 0.1 * abs(math.log10(lr / BEST)) - 0.1 * (hidden == [9, 9]) + 1e-3


def test_what_is_done_is_not_run_again(trained, capsys):
    flags = ["--trials", "6", "--jobs", "2"]
    main([*SEARCH, *flags])
    before, count = capsys.readouterr().out, len(trained)
    main([*SEARCH, *flags])
    assert len(trained) == count
    best = [re.findall("best of.*", text) for text in (before, capsys.readouterr().out)]
    assert best[0] == best[1] and len(best[0]) == 2


def test_a_stored_search_goes_on(trained, tmp_path):
    store = ["--storage", f"sqlite:///{tmp_path}/study.db", "--jobs", "1"]
    main([*SEARCH, *store, "--trials", "3", "--algorithms.sharp.rho", "0.1"])
    study = optuna.load_study(study_name="tiny-sweep-sharp", storage=store[1])
    assert len(study.trials) == 3
    left = study.ask({n: study.trials[0].distributions[n] for n in ("lr", "model.hidden")})
    main([*SEARCH, *store, "--trials", "5", "--algorithms.sharp.rho", "0.1"])
    study = optuna.load_study(study_name="tiny-sweep-sharp", storage=store[1])
    assert len(study.trials) == 5  # the trial that a killed process has left among them
    assert study.trials[left.number].state.is_finished()
    assert len({trial.params["lr"] for trial in study.trials}) == 5
    told = [t for t in study.trials if t.value is not None and math.isfinite(t.value)]
    for trial in told:
        config = configs.load("tiny.yaml", ["--lr", f"{trial.params['lr']:.4g}"])
        wide = 0.1 * (trial.params["model.hidden"] == "[9,9]")
        assert trial.value == pytest.approx(100 * (accuracy(config) - wide))


def test_a_storage_that_cannot_be_used_is_named(trained, capsys):
    assert main([*SEARCH, "--storage", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("fedfast: storage: cannot keep a study in nowhere: ")
    assert not trained


def test_a_field_of_one_label_is_searched_for_it_alone(trained):
    main(["sweep", "tiny.yaml", "--search", "algorithms.sharp.rho=0.1..0.5", "--trials", "3"])
    assert {row.label for row in trained} == {"sharp"} and len(trained) == 3
    rhos = [row.config.algorithms["sharp"].options()["rho"] for row in trained]
    assert all(0.1 <= rho <= 0.5 and rho == float(f"{rho:.4g}") for rho in rhos)


def test_without_optuna_it_says_what_to_install(trained, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(SEARCH) == 2
    assert capsys.readouterr().err == (
        'fedfast: a search needs Optuna: pip install "fedfast[search]"\n'
    )
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "given, kind, values",
    [("1..8", "IntDistribution", (1, 8)), ("1e-3..1:log", "FloatDistribution", (0.001, 1)),
     ("0.5..2", "FloatDistribution", (0.5, 2)), ("1|2", "CategoricalDistribution", ("1", "2"))],
)  # fmt: skip
def test_what_may_be_chosen(trained, given, kind, values):
    made = choice(configs.draft.Draft.read("tiny.yaml"), "rounds", given, "x").distribution()
    assert type(made).__name__ == kind
    bounds = made.choices if kind.startswith("C") else (made.low, made.high)
    assert bounds == values and getattr(made, "log", False) == given.endswith("log")


@pytest.mark.parametrize(("mode", "best"), [("auto", min), ("max", max)])
def test_a_search_looks_at_a_column_of_a_metric(trained, capsys, mode, best):
    """Of drift less is better unless the mode says otherwise; its unit is its own."""
    flags = ["--metrics", "drift", "--metric", "drift_mean:best", "--mode", mode]
    main([*SEARCH, "--trials", "8", "--jobs", "2", *flags])
    shown = capsys.readouterr().out
    for label in ("fedavg", "sharp"):
        line = re.search(rf"{label}: best of 8 trials is .*drift_mean:best ([\d.]+)", shown)
        ended = [row for row in trained if row.label == label and 2e-3 <= row.config.lr <= 0.8]
        found = best(accuracy(row.config) for row in ended)
        assert float(line[1]) == pytest.approx(found, abs=1e-4)
