"""The files of `fedfast reproduce` agree with each other whenever a process was killed, damage is
told by name, and two processes do not work in one folder."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import yaml
from test_reproduce import PAPER

from fedfast import checkpoint, reproduction, round_loop
from fedfast.cli import main
from fedfast.files import locked
from fedfast.history import History, read_runs
from fedfast.simulation import Simulation

FEW = ["reproduce", "somebody", "--only", "dyn", "--seeds", "3"]
FOLDER = Path("runs/reproduction/somebody/table1/dyn/seed-3")


@pytest.fixture
def paper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = yaml.safe_load(PAPER)
    (tmp_path / "somebody").mkdir()
    (tmp_path / "somebody" / "table1.yaml").write_text(yaml.safe_dump(raw))


def losses(folder=FOLDER):
    return History.from_csv(folder / "history.csv").column("train_loss")


def test_another_process_in_the_folder_is_told(paper, capsys):
    FOLDER.mkdir(parents=True)
    with locked(FOLDER / ".lock", "x"):
        assert main(FEW) == 1
        assert f"{FOLDER}: in use by another process (process " in capsys.readouterr().err
    assert main(FEW) == 0
    assert sorted(p.name for p in FOLDER.iterdir()) == ["about.json", "config.yaml", "history.csv"]


class Killed(BaseException):
    """The process ends here: no handler is to run."""


@pytest.mark.parametrize("after", ["sim.save", "history.csv", "about.json", "remove"])
def test_a_process_killed_between_its_files_is_gone_on_from(after, paper, monkeypatch):
    assert main([*FEW, "--out", "whole"]) == 0
    assert main([*FEW, "--rounds", "2"]) == 0
    with monkeypatch.context() as patch:
        dead = []
        whole = reproduction.atomic

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

        patch.setattr(reproduction, "atomic", atomic)
        patch.setattr(Simulation, "save", saves)
        patch.setattr(checkpoint, "remove", lambda path: None)
        assert main(FEW) == 0
    assert len(reproduction_row().history()) == 5  # whatever history.csv holds
    assert main(FEW) == 0
    assert losses() == losses(Path("whole/somebody/table1/dyn/seed-3"))
    assert sorted(p.name for p in FOLDER.iterdir()) == ["about.json", "config.yaml", "history.csv"]


def reproduction_row():
    from fedfast import config

    path = Path("somebody/table1.yaml")
    found = reproduction.rows(path, config.load(path), [3], None, Path("runs/reproduction"))
    return next(row for row in found if row.label == "dyn")


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("about.json", b"{", "about.json: expected JSON"),
        ("about.json", b"[1]", "about.json: damaged"),
        ("about.json", b"\xff\xfe{}", "about.json: expected JSON in UTF-8"),
        ("about.json", b'{"seconds": "x"}', "about.json: expected numbers"),
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


def test_a_bit_turned_over_in_about_json_is_told(paper, capsys):
    assert main(FEW) == 0
    path = FOLDER / "about.json"
    path.write_bytes(path.read_bytes().replace(b'"seconds": ', b'"seconds": 1', 1))
    assert main(FEW) in (1, 2) and "about.json: damaged" in capsys.readouterr().err


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
