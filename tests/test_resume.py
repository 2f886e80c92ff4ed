"""A run that was killed, stopped or damaged goes on as if it never was; what differs is named."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fedfast import config, round_loop
from fedfast.checkpoint import container
from fedfast.cli import main
from fedfast.history import read_runs
from fedfast.report import plots
from fedfast.row_blocks import blocks_of
from fedfast.runs import read

# A pause in each round: a killed process is killed in the middle, and saves are in time.
SLOW = """\
import time
def slow(sim, row):
    time.sleep(0.02)
"""
RUN = """\
data: {name: digits}
partition: {name: iid, clients: 6}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, scaffold: {}, dyn: {name: feddyn}}
rounds: 4
participation: 0.5
threads: 1
eval_every: 3
callbacks: ["slow:slow"]
save_rounds: 1
"""
ROOT = str(Path(__file__).parents[1])
ONE = RUN.replace("fedavg: {}, scaffold: {}, ", "")
TIMES = ("seconds", "clients_per_second", "server_seconds", "evaluation_seconds")


def prepare(folder, patch):
    """A user's folder, in which the command line is called."""
    patch.chdir(folder)
    patch.setattr(sys, "path", [*sys.path, str(folder)])
    patch.setattr(plots, "curves", lambda histories, to: to.touch())  # most of a run's time
    Path("slow.py").write_text(SLOW)
    Path("run.yaml").write_text(RUN)


@pytest.fixture
def run(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch)
    yield
    sys.modules.pop("slow", None)


@pytest.fixture
def one(run):
    """A config of one label, where more of them would only take longer."""
    Path("run.yaml").write_text(ONE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run leaves that was never stopped: its bits and states."""
    with pytest.MonkeyPatch.context() as patch:
        prepare(tmp_path_factory.mktemp("whole"), patch)
        assert main(["run", "run.yaml"]) == 0
        sys.modules.pop("slow", None)
        return bits("runs/run"), states("runs/run")


def bits(folder):
    """The rows without the clock, and the bytes of models and states' tensors."""
    rows = {
        label: [{k: repr(v) for k, v in vars(row).items() if k not in TIMES} for row in history]
        for label, history in read_runs(Path(folder) / "history.csv").items()
    }
    models = {
        path.name: {k: t.numpy().tobytes() for k, t in torch.load(path)["model"].items()}
        for path in sorted(Path(folder).glob("checkpoint/*.pt"))
    }
    return rows, models


def states(folder):
    """The tensors of the states but for the history, which holds the clock."""
    found = {}
    for path in sorted(Path(folder).glob("checkpoint/*.state")):
        _, tensors = container.read(path)
        kept = {k: blocks_of(t) for k, t in tensors.items() if k != "history"}
        found[path.name] = {k: b"".join(b.numpy().tobytes() for b in t) for k, t in kept.items()}
    return found


def process(*args):
    """`fedfast` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fedfast", *args],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, os.getcwd()])},
    )  # fmt: skip


def written():
    path = Path("runs/run/history.csv")
    return path.read_text().count("\n") - 1 if path.exists() else 0


def killed_after(rounds, *args):
    """Kills the process with SIGKILL once so many lines of history are written."""
    with process(*args) as command:
        deadline = time.monotonic() + 60
        while written() < rounds:
            assert command.poll() is None and time.monotonic() < deadline, command.stdout.read()
            time.sleep(0.002)
        command.kill()
    assert command.returncode == -signal.SIGKILL


def test_killed_twice_and_resumed_is_bit_for_bit_the_run_never_stopped(run, whole, capsys):
    draw = random.Random(time.time_ns())
    first, second = sorted(draw.sample(range(1, 11), 2))
    killed_after(first, "run", "run.yaml")
    found = config.load("runs/run/config.yaml")
    kept = {label: len(read(Path("runs/run"), label)[0]) for label in found.algorithms}
    print(f"killed after {first} and {second} rows, kept {kept}")  # where it fails
    killed_after(second, "resume", "runs/run", "--chunk", "1", "--threads", "2")
    assert main(["resume", "runs/run", "--chunk", "2"]) == 0
    assert (bits("runs/run"), states("runs/run")) == whole
    lines = Path("runs/run/history.csv").read_text().splitlines()
    labels = [line.split(",")[0] for line in lines[1:]]
    assert labels == ["fedavg"] * 4 + ["scaffold"] * 4 + ["dyn"] * 4
    assert config.load("runs/run/config.yaml").chunk == 2
    capsys.readouterr()
    assert main(["resume", "runs/run"]) == 0  # nothing is left
    said = capsys.readouterr().out
    assert "runs/run: complete, nothing is left to run" in said and "scaffold" in said


def test_to_more_rounds_is_the_run_that_was_longer_from_the_start(run, whole):
    assert main(["run", "run.yaml", "--rounds", "2"]) == 0
    tested = [row.round for row in read_runs("runs/run/history.csv")["dyn"].tested()]
    assert tested == [2]  # the last one always
    assert main(["resume", "runs/run", "--rounds", "4", "--chunk", "1"]) == 0
    assert (bits("runs/run"), states("runs/run")) == whole
    text = Path("runs/run/config.yaml").read_text()
    assert "# fedfast run run.yaml --rounds 2\n" in text and "\nrounds: 4\n" in text
    assert "# fedfast resume runs/run --rounds 4 --chunk 1\n" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_loses_no_round(run, number, whole, monkeypatch, capsys):
    """Even one that comes in a round's callback: the row is done, and nobody has told it yet."""
    Path("slow.py").write_text(
        "import os, signal\n"
        "def slow(sim, row):\n"
        "    if row.round == 3 and os.environ.get('STOP') == sim.algorithm.name:\n"
        f"        signal.raise_signal({int(number)})\n"
    )
    sys.modules.pop("slow", None)
    monkeypatch.setenv("STOP", "scaffold")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["run", "run.yaml"]) == 128 + number
    finally:
        signal.signal(signal.SIGINT, before)
    said = capsys.readouterr().err
    assert "stopped in scaffold after round 3 of 4 (not begun: dyn)" in said
    assert "`fedfast resume runs/run` goes on from there" in said
    assert [len(h) for h in read_runs("runs/run/history.csv").values()] == [4, 3]
    assert main(["run", "run.yaml", "--resume"]) == 0
    assert bits("runs/run") == whole[0]


def test_rows_are_those_of_the_states_whatever_a_killed_process_left(run, whole, capsys):
    """Killed while appending, between state and line, and before anything of a label was saved."""
    assert main(["run", "run.yaml"]) == 0
    path, text = Path("runs/run/history.csv"), Path("runs/run/history.csv").read_text()
    lines = text.splitlines(keepends=True)
    damages = ["".join(lines[:6]), "".join(lines[:7]) + lines[7][:40]]
    damages += [text + lines[-1].replace("dyn,4", "dyn,5"), "".join(lines[:1])]
    for damaged in damages:
        path.write_text(damaged)
        assert main(["resume", "runs/run"]) == 0
        assert path.read_text() == text
    for name in ("dyn.state", "dyn.state.previous", "dyn.pt"):
        Path("runs/run/checkpoint", name).unlink(missing_ok=True)
    about = Path("runs/run/run.json")
    about.unlink()
    path.write_text("".join(lines[:-2]))
    assert main(["resume", "runs/run"]) == 2  # a version that kept no states wrote these rows
    assert "the state after round 2 was not kept" in capsys.readouterr().err
    about.write_text('{"labels": {}}')
    assert main(["resume", "runs/run"]) == 0  # now a killed process of ours, before any save
    assert bits("runs/run") == whole[0]


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_damaged_state_is_replaced_by_the_one_before_with_a_warning(one, whole, capsys):
    assert main(["run", "run.yaml", "--rounds", "2"]) == 0
    assert main(["resume", "runs/run", "--rounds", "3"]) == 0
    state = Path("runs/run/checkpoint/dyn.state")
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    capsys.readouterr()
    assert main(["resume", "runs/run", "--rounds", "4"]) == 0
    said = capsys.readouterr().err
    assert "fedfast: warning: " in said and "dyn.state" in said
    assert "went on from runs/run/checkpoint/dyn.state.previous, round 2" in said
    rows, models = bits("runs/run")
    assert rows["dyn"] == whole[0][0]["dyn"] and models["dyn.pt"] == whole[0][1]["dyn.pt"]
    for path in (state, state.with_name("dyn.state.previous")):
        path.write_bytes(path.read_bytes()[:100])
    assert main(["resume", "runs/run"]) == 2 and "dyn.state" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["resume", "runs/run"], ["run", "run.yaml", "--resume"]])
def test_changed_options_are_named_one_by_one(one, command, capsys):
    assert main(["run", "run.yaml", "--rounds", "2"]) == 0
    before = {p: p.read_bytes() for p in Path("runs/run").rglob("*") if p.is_file()}
    capsys.readouterr()
    changed = ["--lr", "0.3", "--partition.clients", "7", "--algorithms.dyn.lam", "0.5"]
    assert main([*command, "--rounds", "3", *changed]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "fedfast: runs/run: holds a run with partition.clients 6, not 7",
        "fedfast: runs/run: holds a run with algorithms.dyn.lam 0.1, not 0.5",
        "fedfast: runs/run: holds a run with lr 0.1, not 0.3",
    ]
    assert "rounds" in lines[3] and "threads" in lines[3] and "partition" not in lines[3]
    assert main([*command, "--rounds", "1"]) == 2
    said = capsys.readouterr().err
    assert "runs/run: rounds: 2 are done in dyn; expected at least as many, got 1" in said
    assert before == {p: p.read_bytes() for p in Path("runs/run").rglob("*") if p.is_file()}
    free = ["--threads", "2", "--chunk", "1", "--eval_every", "1", "--callbacks", "slow:slow"]
    assert main([*command, "--rounds", "3", *free, "--metric", "multiclass"]) == 0


def test_a_run_that_is_there_is_told_and_not_touched(one, capsys):
    assert main(["run", "run.yaml", "--rounds", "2"]) == 0
    before = {p: p.read_bytes() for p in Path("runs").rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main(["run", "run.yaml"]) == 2
    said = capsys.readouterr()
    assert "runs/run holds a run: dyn 2 of 2 rounds; last written 20" in said.err
    assert "--resume goes on" in said.err and "--fresh moves it to runs/run.previous" in said.err
    assert not said.out
    assert before == {p: p.read_bytes() for p in Path("runs").rglob("*") if p.is_file()}
    assert main(["run", "run.yaml", "--resume", "--fresh"]) == 2


def test_fresh_moves_the_earlier_run_aside_and_back(one, monkeypatch, capsys):
    def rounds(folder):
        return len(read_runs(Path(folder) / "history.csv")["dyn"])

    for number in (1, 2, 3):
        assert main(["run", "run.yaml", "--rounds", str(number), "--fresh"]) == 0
    assert rounds("runs/run") == 3 and rounds("runs/run.previous") == 2
    whole = round_loop.next_round
    for error, status in ((KeyboardInterrupt(), 130), (ValueError("x: wrong"), 2)):

        def broken(parts, error=error):
            raise error

        monkeypatch.setattr(round_loop, "next_round", broken)
        assert main(["run", "run.yaml", "--fresh"]) == status
        assert rounds("runs/run") == 3 and rounds("runs/run.previous") == 2
    assert main(["run", "run.yaml", "--fresh", "--data.name", "mnist"]) == 2  # no files of it
    assert rounds("runs/run") == 3 and rounds("runs/run.previous") == 2
    monkeypatch.setattr(round_loop, "next_round", whole)
    assert main(["run", "run.yaml", "--rounds", "4", "--fresh"]) == 0
    assert rounds("runs/run") == 4 and rounds("runs/run.previous") == 3
    assert sorted(p.name for p in Path("runs").iterdir()) == ["run", "run.previous"]


@pytest.mark.parametrize("name", ["notes.txt", "config.yaml", "history.csv"])
@pytest.mark.parametrize("flag", [[], ["--resume"], ["--fresh"]])
def test_files_that_are_of_no_run_are_not_touched(run, name, flag, capsys):
    Path("mine").mkdir()
    Path("mine", name).write_text("mine: 1")
    assert main(["run", "run.yaml", "--out", "mine", *flag]) == 2
    assert f"out: expected a run folder or an empty one, found {name} in mine" in (
        capsys.readouterr().err
    )
    assert [p.name for p in Path("mine").iterdir()] == [name]
    assert Path("mine", name).read_text() == "mine: 1"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "expected a run folder first, found nothing"),
        (["nowhere"], "nowhere: expected a run folder, found no config.yaml in it"),
        (["runs/run", "--roundz", "3"], "--roundz: unknown field, nearest: rounds"),
    ],
)
def test_wrong_use_of_resume_is_told(run, args, says, capsys):
    Path("runs/run").mkdir(parents=True)
    Path("runs/run/config.yaml").write_text(RUN)
    assert main(["resume", *args]) == 2
    assert says in capsys.readouterr().err


def test_a_full_disk_leaves_what_was_written_before(run, whole, monkeypatch, capsys):
    from fedfast.runs import folder, history_file

    append, came = history_file.Appender.append, []

    def full(self, label, row):
        if (label, row.round) == ("scaffold", 3):
            came.append(1)
            raise OSError(28, "No space left on device", str(self.path))
        append(self, label, row)

    def no_space(path, write):
        if came:
            raise OSError(28, "No space left on device", str(path))
        atomic(path, write)

    atomic = folder.atomic
    with monkeypatch.context() as patch:
        patch.setattr(history_file.Appender, "append", full)
        patch.setattr(folder, "atomic", no_space)
        assert main(["run", "run.yaml"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert [len(h) for h in read_runs("runs/run/history.csv").values()] == [4, 2]
    assert main(["resume", "runs/run"]) == 0
    assert bits("runs/run") == whole[0]


@pytest.mark.parametrize("begun", [True, False])
def test_what_a_killed_process_left_half_written_goes(one, begun):
    left = [".run.partial-a.json", "checkpoint/.dyn.best.partial-b.pt", ".history.partial-c.csv"]
    assert main(["run", "run.yaml"]) == 0
    if not begun:
        for path in [*Path("runs/run/checkpoint").iterdir(), Path("runs/run/history.csv")]:
            path.unlink()
    for name in left:
        Path("runs/run", name).write_text("half")
    assert main(["run", "run.yaml"]) == (2 if begun else 0)
    assert all(Path("runs/run", name).exists() == begun for name in left)  # refused: not touched
    assert main(["resume", "runs/run"]) == 0
    assert not list(Path("runs/run").rglob("*partial*"))


def test_a_renamed_algorithm_is_a_line_for_each_name(one, capsys):
    assert main(["run", "run.yaml", "--rounds", "1"]) == 0
    Path("run.yaml").write_text(ONE.replace("dyn:", "other:"))
    capsys.readouterr()
    assert main(["run", "run.yaml", "--resume"]) == 2
    assert capsys.readouterr().err.splitlines()[:-1] == [
        "fedfast: runs/run: holds a run with the algorithm dyn",
        "fedfast: runs/run: holds a run without the algorithm other",
    ]


def test_a_damaged_run_json_may_be_removed(one, whole, capsys):
    assert main(["run", "run.yaml", "--rounds", "2"]) == 0
    about = Path("runs/run/run.json")
    about.write_text(about.read_text()[:100])
    assert main(["resume", "runs/run", "--rounds", "4"]) == 2
    assert "remove it to go on" in capsys.readouterr().err
    about.unlink()
    assert main(["resume", "runs/run", "--rounds", "4"]) == 0
    assert bits("runs/run")[0]["dyn"] == whole[0][0]["dyn"]


def test_a_callback_whose_module_is_gone_is_taken_out(run, capsys):
    Path("run.yaml").write_text(ONE)
    assert main(["run", "run.yaml", "--rounds", "2"]) == 0
    Path("slow.py").unlink()
    sys.modules.pop("slow")
    before = Path("runs/run/history.csv").read_bytes()
    assert main(["resume", "runs/run", "--rounds", "3"]) == 2
    assert "slow:slow" in capsys.readouterr().err
    assert Path("runs/run/history.csv").read_bytes() == before
    assert main(["compare", "runs/run"]) == 0
    assert main(["resume", "runs/run", "--rounds", "3", "--callbacks", "[]"]) == 0
    assert [row.round for row in read(Path("runs/run"), "dyn")[0]] == [1, 2, 3]
    assert config.load("runs/run/config.yaml").callbacks == []
