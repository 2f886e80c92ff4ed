"""`fedfast reproduce` as its user meets it: tables of a paper beside ours, resumed, refused."""

import re
import signal
import statistics
from pathlib import Path

import pytest
import yaml

from fedfast import config, example_files, reproduction, round_loop
from fedfast.cli import main
from fedfast.history import History
from fedfast.runs import training

PAPER = """\
data: {name: digits}
partition: {name: dirichlet, clients: 6, alpha: 0.5}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, gh: {name: fedgh}, dyn: {name: feddyn}}
rounds: 5
participation: 0.5
threads: 1
paper:
  source: Somebody et al., Table 1
  seeds: [3, 5]
  note: What is not said is assumed.
  measures:
    - {summary: mean-2, published: {fedavg: [50, 100], gh: [99, 0.1], dyn: null}}
    - {column: conflicts_before, summary: sum, published: {fedavg: null, gh: 3, dyn: null}}
"""


@pytest.fixture
def paper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebody").mkdir()
    path = tmp_path / "somebody" / "table1.yaml"
    path.write_text(PAPER)
    return path


def lines(text):
    """(row, measure) -> the other cells of the report's table."""
    cells = [[c.strip() for c in line.strip("| ").split("|")] for line in text.splitlines()]
    return {tuple(c[:2]): c[2:] for c in cells if len(c) == 9}


def histories(tmp_path, label, out="runs/reproduction"):
    folder = tmp_path / out / "somebody" / "table1" / label
    return [History.from_csv(folder / f"seed-{seed}" / "history.csv") for seed in (3, 5)]


def test_the_table_says_what_the_histories_say(paper, tmp_path, capsys):
    assert main(["reproduce", "somebody"]) == 0
    report = tmp_path / "runs/reproduction/report.md"
    assert str(report.relative_to(tmp_path)) in capsys.readouterr().out
    text = report.read_text()
    assert "## Somebody et al., Table 1" in text and "What is not said is assumed." in text
    assert (report.parent / "somebody-table1.png").stat().st_size > 1000
    found = lines(text)
    # Independently: means of the last two tested rounds, then over seeds.
    per_seed = [
        100 * statistics.fmean(row.accuracy for row in list(h)[-2:])
        for h in histories(tmp_path, "fedavg")
    ]
    mean, std = statistics.fmean(per_seed), statistics.stdev(per_seed)
    published, ours, difference, within, rounds, _, _ = found["fedavg", "accuracy, mean of last 2"]
    assert published == "50 ± 100" and rounds == "5 of 5" and within == "yes"
    assert ours == f"{mean:.5g} ± {std:.3g} (2 seeds)" and difference == f"{mean - 50:+.3g}"
    assert found["gh", "accuracy, mean of last 2"][3] == "no"
    assert found["dyn", "accuracy, mean of last 2"][0] == "not at hand"
    counts = [
        sum(float(re.search(r"conflicts_before=(\S+)", row.scalars)[1]) for row in h)
        for h in histories(tmp_path, "gh")
    ]
    assert found["gh", "conflicts_before, sum"][1].startswith(f"{statistics.fmean(counts):.5g} ±")
    assert ("fedavg", "conflicts_before, sum") not in found  # neither published nor measured


def test_rounds_seeds_and_labels_can_be_chosen_and_later_calls_go_on(paper, tmp_path):
    few = ["reproduce", "somebody", "--only", "dyn", "--seeds", "3"]
    assert main([*few, "--rounds", "2"]) == 0
    folder = tmp_path / "runs/reproduction/somebody/table1/dyn/seed-3"
    assert (
        len(History.from_csv(folder / "history.csv")) == 2
        and (folder / "checkpoint/dyn.state").exists()
    )
    assert list(folder.parent.parent.iterdir()) == [folder.parent]
    assert main(few) == 0 and not (folder / "checkpoint/dyn.state").exists()
    assert main([*few, "--out", "whole"]) == 0
    whole = History.from_csv(tmp_path / "whole/somebody/table1/dyn/seed-3/history.csv")
    parts = History.from_csv(folder / "history.csv")
    assert parts.column("train_loss") == whole.column("train_loss")
    assert parts.column("accuracy")[2:] == whole.column("accuracy")[2:]


def test_the_last_rounds_are_those_of_the_paper(paper, tmp_path):
    chosen = ["--only", "fedavg", "--seeds", "3", "--eval_every", "4", "--eval_last", "3"]
    history = tmp_path / "runs/reproduction/somebody/table1/fedavg/seed-3/history.csv"

    def tested(*more: str) -> list[int]:
        assert main(["reproduce", str(paper), *chosen, *more]) == 0
        return [r.round for r in History.from_csv(history) if r.accuracy == r.accuracy]

    assert tested("--rounds", "2") == [2]  # where a call ends
    assert tested("--rounds", "4") == [2, 3, 4]
    assert tested() == [2, 3, 4, 5]


def test_what_is_done_is_not_run_again(paper, monkeypatch):
    few = ["reproduce", "somebody", "--only", "fedavg"]
    assert main(few) == 0
    monkeypatch.setattr(reproduction, "train", lambda *_: pytest.fail("was run again"))
    assert main(few) == 0


def test_a_dry_call_runs_nothing_and_shows_what_was_published(paper, tmp_path, capsys):
    assert main(["reproduce", "somebody", "--dry"]) == 0
    assert not list((tmp_path / "runs/reproduction").rglob("history.csv"))
    shown = lines((tmp_path / "runs/reproduction/report.md").read_text())
    mean, conflicts = "accuracy, mean of last 2", "conflicts_before, sum"
    nothing = ["–", "–", "–", "0 of 5", "–", "–"]
    assert list(shown)[2:] == [("fedavg", mean), ("gh", mean), ("gh", conflicts)]
    assert shown["fedavg", mean] == ["50 ± 100", *nothing]
    assert shown["gh", conflicts] == ["3", *nothing]
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["gh", *mean.split(), "99", "±", "0.1", "–", "0", "of", "5"] in told


def ctrl_c():
    raise KeyboardInterrupt


def scheduler():
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(("stop", "status"), [(ctrl_c, 130), (scheduler, 143)])
def test_a_stop_keeps_the_rounds_and_the_same_command_goes_on(
    stop, status, paper, tmp_path, monkeypatch
):
    once = round_loop.next_round

    def interrupted(parts):
        if len(parts.engine.committed.rows) == 3:
            stop()
        return once(parts)

    monkeypatch.setattr(round_loop, "next_round", interrupted)
    few = ["reproduce", "somebody", "--only", "fedavg", "--seeds", "3"]
    assert main(few) == status
    folder = tmp_path / "runs/reproduction/somebody/table1/fedavg/seed-3"
    assert len(History.from_csv(folder / "history.csv")) == 3
    assert "3 of 5" in (tmp_path / "runs/reproduction/report.md").read_text()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    monkeypatch.setattr(round_loop, "next_round", once)
    assert main(few) == 0
    assert len(History.from_csv(folder / "history.csv")) == 5


@pytest.mark.parametrize("cost, saved_after", [(1.0, [2, 4, 6, 8, 10]), (10.0, [2, 9])])
def test_saving_takes_at_most_a_fiftieth_of_a_run(monkeypatch, cost, saved_after):
    clock, saved = [0.0], []
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    times = training.SaveTimes(None, 120.0)
    for r in range(1, 11):
        clock[0] += 75.0
        if times.due():
            saved.append(r)
            began = clock[0]
            clock[0] += cost
            times.saved(began)
    assert saved == saved_after


def test_saves_that_take_longer_and_longer_stay_within_their_share(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    times, spent, cost = training.SaveTimes(1, 30.0), 0.0, 0.01
    for _ in range(20_000):
        clock[0] += 0.1
        if times.due():
            before = spent / clock[0]
            assert before <= 0.02
            began, cost = clock[0], cost * 1.5
            clock[0], spent = clock[0] + cost, spent + cost
            times.saved(began)
    assert spent > 1.0


def test_another_configuration_is_not_mixed_with_what_is_there(paper, tmp_path, capsys):
    few = ["reproduce", "somebody", "--only", "fedavg", "--seeds", "3"]
    assert main([*few, "--rounds", "2"]) == 0
    before = (tmp_path / "runs/reproduction/somebody/table1/fedavg/seed-3/history.csv").read_bytes()
    assert main([*few, "--lr", "0.2"]) == 1
    assert "holds a run with lr 0.1, not 0.2" in capsys.readouterr().err
    after = (tmp_path / "runs/reproduction/somebody/table1/fedavg/seed-3/history.csv").read_bytes()
    assert after == before
    assert main([*few, "--threads", "2"]) == 0  # computed differently, the same run


def test_a_diverged_row_says_so_and_is_not_tried_again(paper, tmp_path):
    few = ["reproduce", "somebody", "--only", "fedavg", "--seeds", "3", "--lr", "1e30"]
    assert main(few) == 0 and main(few) == 0
    rounds = lines((tmp_path / "runs/reproduction/report.md").read_text())
    assert rounds["fedavg", "accuracy, mean of 1, not 2"][4] == "1 of 5, diverged"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "usage: fedfast reproduce"),
        (["--rounds", "3"], "expected configs or folders of them first, found none"),
        (["somebody", "--rounds", "0"], "--rounds: expected at least 1, found 0"),
        (["somebody", "--only", "x"], "--only: expected some of dyn, fedavg, gh, found"),
        (["nowhere"], "cannot be read"),
        (["fedglos"], "fedglos: found nothing there; did you mean the examples 'papers/fedgloss'?"),
        (["somebody", "--seeds", "a"], "--seeds: expected numbers divided by commas; got 'a'"),
        (["somebody", "--rounds", "x"], "fedfast: argument --rounds: invalid int value: 'x'\n"),
        (["somebody", "--lrr", "3"], "lrr"),
    ],
)
def test_wrong_use_exits_with_2(paper, argv, said, capsys):
    assert main(["reproduce", *argv]) == 2
    assert said in capsys.readouterr().err


def test_a_config_without_a_paper_is_refused(paper, capsys):
    raw = yaml.safe_load(PAPER)
    del raw["paper"]
    paper.write_text(yaml.safe_dump(raw))
    assert main(["reproduce", "somebody"]) == 2
    assert "expected a config with a section `paper`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("gh: 3, dyn: null", "gh: 3", "paper: measures.1.published: expected one of each of"),
        ("mean-2", "mean-0", "expected last, best, sum, mean-N or round-N, found 'mean-0'"),
        ("[50, 100]", "[1, 2, 3]", r"expected a number, \[number, std\], null, X or –"),
        ("seeds: [3, 5]", "seeds: []", "paper.seeds"),
    ],
)
def test_a_paper_section_is_checked(paper, old, new, said):
    assert old in PAPER
    paper.write_text(PAPER.replace(old, new))
    with pytest.raises(config.ConfigError, match=said):
        config.load(paper)


def test_a_name_that_ends_like_a_suffix_is_whole_in_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("alpha0", "alpha0.05"):
        (tmp_path / "papers" / "somebody").mkdir(parents=True, exist_ok=True)
        (tmp_path / "papers" / "somebody" / f"{name}.yaml").write_text(PAPER)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(example_files, "root", lambda: tmp_path)
    for name in ("alpha0", "alpha0.05"):
        few = ["--only", "fedavg", "--rounds", "1", "--seeds", "3"]
        assert main(["reproduce", f"papers/somebody/{name}", *few]) == 0
        assert main(["run", f"papers/somebody/{name}", "--rounds", "1"]) == 0
    made = {"alpha0", "alpha0.05"}
    assert {path.name for path in Path("runs/reproduction/somebody").iterdir()} == made
    assert {path.name for path in Path("runs").iterdir()} == {"reproduction", *made}
