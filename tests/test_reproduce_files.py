"""The files of `fedfast reproduce` agree with each other whenever a process was killed, damage is
told by name, and two processes do not work in one folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from test_reproduce import PAPER

from fedfast import checkpoint, files, reproduction, round_loop, runs
from fedfast.cli import main
from fedfast.files import locked
from fedfast.history import History, read_runs
from fedfast.runs import about, folder, history_file, kept_model
from fedfast.runs.history_file import Appender
from fedfast.simulation import Simulation

FEW = ["reproduce", "somebody", "--only", "dyn", "--seeds", "3"]
FOLDER = Path("runs/reproduction/somebody/table1/dyn/seed-3")
DONE = ["checkpoint/dyn.pt", "config.yaml", "history.csv", "run.json"]


@pytest.fixture
def paper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = yaml.safe_load(PAPER)
    (tmp_path / "somebody").mkdir()
    (tmp_path / "somebody" / "table1.yaml").write_text(yaml.safe_dump(raw))


def losses(folder=FOLDER):
    return History.from_csv(folder / "history.csv").column("train_loss")


def there():
    return sorted(str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*") if p.is_file())


def test_another_process_in_the_folder_is_told(paper, capsys):
    FOLDER.mkdir(parents=True)
    with locked(FOLDER / ".lock", "x"):
        assert main(FEW) == 1
        assert f"{FOLDER}: in use by another process (process " in capsys.readouterr().err
    assert main(FEW) == 0
    assert there() == DONE


@pytest.mark.parametrize("after", ["sim.save", "dyn.pt", "run.json", "remove"])
def test_a_process_killed_between_its_files_is_gone_on_from(after, paper, monkeypatch):
    assert main([*FEW, "--out", "whole"]) == 0
    assert main([*FEW, "--rounds", "2"]) == 0
    with monkeypatch.context() as patch:
        dead = []
        whole, append = files.atomic, Appender.append

        def atomic(path, write):
            if dead:
                return
            whole(path, write)
            if path.name == after:
                dead.append(1)

        save = Simulation.save

        def saves(sim, path):
            if not dead:
                save(sim, path)
            if after == "sim.save":
                dead.append(1)

        for module in (about, folder, history_file, kept_model):
            patch.setattr(module, "atomic", atomic)
        patch.setattr(Simulation, "save", saves)
        patch.setattr(Appender, "append", lambda *row: None if dead else append(*row))
        patch.setattr(checkpoint, "remove", lambda path: None)
        assert main(FEW) == 0
    assert len(reproduction_row().history()) == 5  # whatever history.csv holds
    assert main(FEW) == 0
    assert losses() == losses(Path("whole/somebody/table1/dyn/seed-3"))
    assert there() == DONE


def reproduction_row():
    from fedfast import config

    path = Path("somebody/table1.yaml")
    found = reproduction.rows(path, config.load(path), [3], None, Path("runs/reproduction"))
    return next(row for row in found if row.label == "dyn")


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("run.json", b"{", "run.json: expected JSON"),
        ("run.json", b"[1]", "run.json: damaged"),
        ("run.json", b"\xff\xfe{}", "run.json: expected JSON in UTF-8"),
        ("run.json", b'{"labels": {"dyn": {"seconds": "x"}}}', "run.json: expected numbers"),
        ("history.csv", b"\xff\xfe\xff", "history.csv: expected a CSV file in UTF-8"),
        ("history.csv", None, "history.csv: damaged: its checksum"),
    ],
)
def test_a_damaged_file_is_told_by_name(name, damage, said, paper, capsys):
    assert main(FEW) == 0
    path = FOLDER / name
    held = path.read_bytes()
    path.write_bytes(held.replace(b"0.1,", b"0.2,", 1) if damage is None else damage)
    assert main(FEW) in (1, 2)
    assert said in capsys.readouterr().err


def test_a_bit_turned_over_in_run_json_is_told(paper, capsys):
    assert main(FEW) == 0
    path = FOLDER / "run.json"
    path.write_bytes(path.read_bytes().replace(b'"seconds": ', b'"seconds": 1', 1))
    assert main(FEW) in (1, 2) and "run.json: damaged" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_python_forgets_is_not_forgotten(number, status, paper, monkeypatch):
    """Exceptions within finalizers are ignored, those of signal handlers too."""

    class Dying:
        def __del__(self):
            signal.raise_signal(number)

    once = round_loop.next_round

    def round_(parts):
        row = once(parts)
        if row.round == 3:
            Dying()
        return row

    monkeypatch.setattr(round_loop, "next_round", round_)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(FEW) == status
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(losses()) == 3
    monkeypatch.setattr(round_loop, "next_round", once)
    assert main(FEW) == 0 and len(losses()) == 5


def test_a_history_of_other_bytes_is_told(tmp_path):
    path = tmp_path / "history.csv"
    for damage in (b"\xff\xff", b"round,\x00\n\x00"):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=r"history\.csv: expected"):
            read_runs(path)


def made_old(folder, name="dyn"):
    """The row as versions before 0.2 kept it."""
    state = folder / "checkpoint" / f"{name}.state"
    rows, known = runs.read(folder, name)
    rows.to_csv(folder / "history.csv")
    for path, to in ((state, "state.pt"), (checkpoint.previous(state), "state.pt.previous")):
        if path.exists():
            path.rename(folder / to)
    shutil.rmtree(folder / "checkpoint")
    (folder / "run.json").unlink()
    digest = hashlib.sha256((folder / "history.csv").read_bytes()).hexdigest()
    about = {"device": "a machine", "versions": "fedfast 0.1.0, torch 2.13.0"}
    about |= {"seconds": 12.5, "stopped": known.stopped, "history": digest}
    text = json.dumps(about, sort_keys=True).encode()
    about["checksum"] = hashlib.sha256(text).hexdigest()
    (folder / "about.json").write_text(json.dumps(about))


def test_a_row_of_an_older_version_is_reported_and_gone_on_with(paper, capsys):
    assert main([*FEW, "--out", "whole"]) == 0
    assert main([*FEW, "--rounds", "2"]) == 0
    made_old(FOLDER)
    before = {p.name: p.read_bytes() for p in FOLDER.iterdir()}
    assert main([*FEW, "--dry"]) == 0
    report = Path("runs/reproduction/report.md")
    assert "| 2 of 5 | 12.5 s | a machine |" in report.read_text()
    assert before == {p.name: p.read_bytes() for p in FOLDER.iterdir()}  # not touched
    assert main(FEW) == 0
    assert losses() == losses(Path("whole/somebody/table1/dyn/seed-3")) and there() == DONE
    assert reproduction_row().about().seconds >= 12.5
    made_old(FOLDER)  # done
    assert main(FEW) == 0
    assert "| 5 of 5 |" in report.read_text() and there() == [
        "config.yaml",
        "history.csv",
        "run.json",
    ]
    assert reproduction_row().about().seconds == 12.5


@pytest.mark.parametrize("broken_off", ["history.csv", "run.json"])
def test_giving_an_old_row_its_new_names_may_be_broken_off(broken_off, paper, monkeypatch):
    assert main([*FEW, "--rounds", "2"]) == 0
    made_old(FOLDER)
    whole = files.atomic

    def atomic(path, write):
        if path.name == broken_off:
            raise KeyboardInterrupt
        whole(path, write)

    with monkeypatch.context() as patch:
        for module in (about, history_file):
            patch.setattr(module, "atomic", atomic)
        assert main(FEW) == 130
    assert len(reproduction_row().history()) == 2 and reproduction_row().about().seconds == 12.5
    assert main(FEW) == 0 and len(losses()) == 5
