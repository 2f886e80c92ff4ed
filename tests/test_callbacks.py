"""What follows a run: the order of its calls, stopping early, the best model; also after a kill."""

from __future__ import annotations

import math
import sys
import threading
from pathlib import Path

import pytest
import torch
from federation import arrays, federation, mlp
from hypothesis import given, settings
from hypothesis import strategies as st

import fedfast
from fedfast import config, round_loop
from fedfast.callbacks import Callback, EarlyStopping, KeepBest, RunInfo
from fedfast.callbacks.best_so_far import BestSoFar
from fedfast.cli import main
from fedfast.history import Row, read_runs
from fedfast.report import plots

SIZES = [9, 4, 5]


def simulation(**options):
    (x,), (y,) = arrays([40])
    how = dict(rounds=6, participation=1.0, test=(x, y), lr=1.0)
    return fedfast.Simulation(mlp(), federation(SIZES), **{**how, **options})


class Diary(Callback):
    def __init__(self):
        self.calls = []

    def on_start(self, sim, run):
        self.calls.append(("start", sim.round, run))

    def on_round_end(self, sim, row):
        self.calls.append(("round", row.round))

    def on_evaluate(self, sim, row):
        self.calls.append(("tested", row.round))

    def on_save(self, sim):
        self.calls.append(("save", sim.round))

    def on_end(self, sim):
        self.calls.append(("end", sim.round))


def test_the_calls_of_a_run_and_of_one_that_goes_on(tmp_path):
    diary, seen = Diary(), []
    sim = simulation(
        rounds=3, eval_every=2, callbacks=[diary, lambda s, row: seen.append(row.round)]
    )
    run = RunInfo("fedavg")
    for row in sim:
        if row.round == 1:
            break
    assert diary.calls == [("start", 0, run), ("round", 1), ("end", 1)]
    diary.calls.clear()
    sim.save(tmp_path / "state")
    sim.run(progress=False)
    rounds = [("round", 2), ("tested", 2), ("round", 3), ("tested", 3)]
    assert diary.calls == [("save", 1), ("start", 1, run), *rounds, ("end", 3)]
    sim.run(progress=False)  # nothing is left
    assert diary.calls[-1] == ("end", 3) and seen == [1, 2, 3]


def test_every_one_that_has_started_is_ended_whatever_is_raised():
    class Broken(Diary):
        def on_round_end(self, sim, row):
            raise RuntimeError("ours")

        def on_end(self, sim):
            super().on_end(sim)
            raise OSError("also")

    class Refuses(Diary):
        def on_start(self, sim, run):
            raise ValueError("not begun")

    first, broken, last = Diary(), Broken(), Diary()
    with pytest.raises(OSError, match="also"):
        simulation(callbacks=[first, broken, last]).run(progress=False)
    assert [c.calls[-1] for c in (first, broken, last)] == [("end", 1)] * 3
    first, last = Diary(), Diary()
    with pytest.raises(ValueError, match="not begun"):
        simulation(callbacks=[first, Refuses(), last]).run(progress=False)
    assert first.calls[-1] == ("end", 0) and last.calls == []


def test_a_stopped_run_goes_on_when_it_is_run_again():
    whole = simulation()
    whole.run(progress=False)
    sim = simulation(callbacks=[lambda s, row: row.round == 2 and s.stop("enough")])
    sim.run(progress=False)
    assert sim.round == 2 and sim.stop_reason == "enough" and not sim.stopped
    for row in sim:
        if row.round == 4:
            thread = threading.Thread(target=sim.stop)
            thread.start()
            thread.join()
    assert sim.round == 4 and sim.stop_reason == "sim.stop()"
    sim.run(progress=False)
    assert sim.round == 6 and sim.stop_reason == ""
    assert all(torch.equal(t, whole.state_dict()[name]) for name, t in sim.state_dict().items())
    with pytest.raises(TypeError, match="reason: expected a text; got 3"):
        sim.stop(3)


values = st.lists(st.one_of(st.just(math.nan), st.integers(0, 5).map(float)), max_size=30)


@given(values, st.integers(1, 4), st.sampled_from([0.0, 1.0]), st.sampled_from([1.0, -1.0]))
@settings(max_examples=200, deadline=None)
def test_the_best_so_far_is_what_its_definition_says(column, patience, delta, sign):
    rows = [Row(t + 1, accuracy=value) for t, value in enumerate(column)]
    known = [row for row in rows if not math.isnan(row.accuracy)]
    best = None
    for i, row in enumerate(known):  # counts if it is better than all that counted before
        if best is None or sign * row.accuracy > sign * known[best].accuracy + delta:
            best = i
    found = BestSoFar("accuracy", sign, delta).see_all(rows)
    assert found.row is (None if best is None else known[best])
    assert found.since == (0 if best is None else len(known) - 1 - best)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_early_stopping_counts_tested_rounds_and_stays_stopped(metric, tmp_path):
    stop = EarlyStopping(metric, patience=2, min_delta=10.0)  # only the first value ever counts
    sim = simulation(eval_every=2, rounds=20, callbacks=[stop])
    sim.run(progress=False)
    assert sim.round == 6 and f"{metric} " in sim.stop_reason and "round 2" in sim.stop_reason
    sim.save(tmp_path / "state")
    for patience, rounds in ((2, 6), (3, 8)):
        again = simulation(
            eval_every=2, rounds=20, callbacks=[EarlyStopping(metric, patience, 10.0)]
        )
        again.load(tmp_path / "state")
        again.run(progress=False)
        assert again.round == rounds


def test_a_metric_without_values_is_told_in_the_first_tested_round():
    sim = simulation(callbacks=[EarlyStopping("personal_accuracy")])
    with pytest.raises(ValueError, match="personal_accuracy is nan in round 1"):
        sim.run(progress=False)
    sim = simulation(test=None, callbacks=[EarlyStopping("accuracy")])
    with pytest.raises(ValueError, match="metric: expected .* no test set"):
        sim.run(progress=False)
    assert sim.round == 0


def test_the_best_model_is_the_one_of_its_round(tmp_path):
    models = []
    best = KeepBest(tmp_path / "best.pt")
    with pytest.raises(ValueError, match="keep_best: expected a tested round"):
        best.state_dict()
    keep = lambda sim, row: models.append(sim.model())  # noqa: E731
    sim = simulation(rounds=12, callbacks=[best, keep])
    sim.run(progress=False)
    row = sim.history.best()
    assert best.round == row.round < 12  # or the test would not see the last model kept
    module, expected = mlp(), models[row.round - 1].state_dict()
    best.load(module)
    assert all(torch.equal(t, expected[name]) for name, t in module.state_dict().items())
    kept = torch.load(tmp_path / "best.pt", weights_only=True)
    assert kept["round"] == row.round and kept["value"] == row.accuracy
    assert all(torch.equal(t, expected[name]) for name, t in kept["model"].items())


OURS = """\
from fedfast.callbacks import Callback
STARTS = []
class Ours(Callback):
    def __init__(self, every: int = 2): ...
    def on_start(self, sim, run): STARTS.append((run.label, run.folder, run.config["rounds"]))
"""
RUN = """\
data: {name: digits}
partition: {name: iid, clients: 6}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, dyn: {name: feddyn}}
rounds: 30
participation: 0.5
lr: 3.0
threads: 1
save_rounds: 1
callbacks: [{name: early_stopping, patience: 4}, keep_best, {name: "followers:Ours", every: 3}]
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(plots, "curves", lambda histories, to: to.touch())
    Path("run.yaml").write_text(RUN)
    Path("followers.py").write_text(OURS)
    yield
    sys.modules.pop("followers", None)


def test_callbacks_of_a_config_with_every_default(run):
    found = config.load("run.yaml", ["--callbacks", "{name: keep_best, metric: loss}"])
    assert found.callbacks == [
        {"name": "keep_best", "path": None, "metric": "loss", "mode": "auto"}
    ]
    stopping = config.load("run.yaml").callbacks[0]
    assert stopping == {"name": "early_stopping", "metric": "accuracy", "patience": 4,
                        "min_delta": 0.0, "mode": "auto"}  # fmt: skip
    config.save(config.load("run.yaml"), "again.yaml")
    assert config.load("again.yaml").callbacks == config.load("run.yaml").callbacks


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("early_stopping", "early_stoping", "unknown name 'early_stoping'; did you mean 'early_st"),
        ("patience: 4", "patients: 4", "option: unknown name 'patients'; did you mean 'patience'"),
        ("patience: 4", "patience: 0", "patience: expected at least 1; got 0"),
        ("patience: 4", "metric: acuracy", "metric: unknown name 'acuracy'; did you mean 'accur"),
        ("patience: 4", "mode: most", "mode: unknown name 'most'; "),
        ("name: early_stopping, ", "", "expected a mapping with a name; got {'patience': 4}"),
        ("every: 3", "evry: 3", "option: unknown name 'evry'; did you mean 'every'"),
        ("keep_best", "3", "callbacks"),
    ],
)
def test_wrong_callbacks_of_a_config_are_one_line_with_their_place(run, old, new, says, capsys):
    assert old in RUN
    Path("run.yaml").write_text(RUN.replace(old, new))
    assert main(["run", "run.yaml"]) == 2
    said = capsys.readouterr().err
    assert says in said and said.startswith("fedfast: run.yaml:10: callbacks")
    assert not Path("runs").exists()


def test_early_stopping_and_the_best_model_of_a_run_broken_off_and_resumed(run, monkeypatch):
    assert main(["run", "run.yaml", "--out", "whole"]) == 0
    whole = read_runs("whole/history.csv")
    ends = {label: len(history) for label, history in whole.items()}
    assert all(4 < end < 30 for end in ends.values())  # both were ended early
    once = round_loop.next_round
    for stop_in in ("fedavg", "feddyn"):

        def interrupted(parts, name=stop_in):
            done = len(parts.engine.committed.rows)
            if parts.design.algorithm.name == name and done == 3:
                raise KeyboardInterrupt
            return once(parts)

        monkeypatch.setattr(round_loop, "next_round", interrupted)
        assert main(["run", "run.yaml", "--resume"]) == 130
    monkeypatch.setattr(round_loop, "next_round", once)
    assert main(["resume", "runs/run"]) == 0
    found = read_runs("runs/run/history.csv")
    assert {label: len(history) for label, history in found.items()} == ends
    for label, history in whole.items():
        assert found[label].column("loss") == history.column("loss")
        one, other = (
            torch.load(f"{folder}/checkpoint/{label}.best.pt", weights_only=True)
            for folder in ("whole", "runs/run")
        )
        assert one["round"] == other["round"] == history.best().round
        assert all(torch.equal(t, other["model"][name]) for name, t in one["model"].items())
    assert main(["resume", "runs/run"]) == 0  # stays ended
    assert {k: len(h) for k, h in read_runs("runs/run/history.csv").items()} == ends
    starts = sys.modules["followers"].STARTS
    assert starts[0] == ("fedavg", Path("whole"), 30) and starts[-1][0] == "dyn"


def test_what_callbacks_wrote_goes_with_a_folder_in_which_no_round_was_done(run, capsys):
    Path("followers.py").write_text(
        "class Writes:\n"
        "    def on_start(self, sim, run):\n"
        "        (run.folder / 'logs').mkdir()\n"
        "        (run.folder / 'logs' / 'x').touch()\n"
        "        raise ValueError('logs: no connection')\n"
    )
    assert main(["run", "run.yaml", "--callbacks", "followers:Writes"]) == 2
    assert capsys.readouterr().err == "fedfast: logs: no connection\n"
    assert not Path("runs/run").exists()


def test_objects_that_follow_nothing_are_refused():
    class Misspelt:
        def on_round_ends(self, sim, row): ...

    class Short(Callback):
        def on_start(self, sim): ...

    for wrong, says in (
        (Misspelt(), "or objects with on_round_end"),
        (Short(), "on_start with 2 arguments"),
        (EarlyStopping, "expected an object; got the class"),
        ({"path": "x"}, "expected a mapping with a name"),
        ({"name": "keep_best", "pth": 1}, "did you mean 'path'"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"callback.*{says}"):
            simulation(callbacks=[wrong])


def growth(seen) -> float:
    """A metric of one's own: the mean squared length of the updates."""
    return float(seen.squares.mean())


@pytest.mark.parametrize(
    ("metric", "mode", "sign"),
    [("cosine_global", "auto", 1), ("drift_mean", "auto", -1), ("growth", "max", 1)],
)
def test_columns_of_metrics_stop_a_run_and_choose_a_model(metric, mode, sign):
    metrics, best = ["cosine", "drift", growth], KeepBest(metric=metric, mode=mode)
    whole = simulation(rounds=6, metrics=metrics, callbacks=[best])
    values = [sign * value for value in whole.run(progress=False).column(metric)]
    assert best.round == 1 + values.index(max(values))
    stop = EarlyStopping(metric, patience=2, min_delta=1e9, mode=mode)  # the first stays best
    sim = simulation(rounds=6, metrics=metrics, callbacks=[stop])
    sim.run(progress=False)
    assert sim.round == 3 and f"{metric} {sign * values[0]:.5g} of round 1" in sim.stop_reason


def test_a_column_that_a_run_lacks_is_told_before_round_1():
    sim = simulation(metrics=["drift"], callbacks=[EarlyStopping("cosine_global")])
    with pytest.raises(ValueError, match="metric: unknown name 'cosine_global'; .*drift_mean"):
        sim.run(progress=False)
    assert sim.round == 0
