"""`fedfast run` as its user meets it: the folder, the messages, the exit status, Ctrl-C."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fedfast import config, round_loop
from fedfast.cli import main
from fedfast.cli.setting import prepare, simulation
from fedfast.history import read_runs
from fedfast.runs import open_folder, train
from fedfast.signals import undisturbed
from fedfast.steady_rounds import SteadyRounds

TINY = """\
data: {name: digits}
partition: {name: iid, clients: 6}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, sharp: {name: fedsam, rho: 0.05}}
rounds: 3
participation: 0.5
batch_size: 50
threads: 1
"""
FILES = [
    "checkpoint/fedavg.pt", "checkpoint/fedavg.state",
    "checkpoint/sharp.pt", "checkpoint/sharp.state",
    "config.yaml", "curves.png", "history.csv", "run.json", "summary.md",
]  # fmt: skip


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def results(folder):
    """What has to be the same when a run is repeated: all but the times."""
    runs = read_runs(Path(folder) / "history.csv")
    return {
        label: [(r.round, r.accuracy, r.loss, r.train_loss, r.update_norm) for r in history]
        for label, history in runs.items()
    }


def test_a_run_leaves_a_complete_folder_and_repeats_from_its_config(tiny, capfd):
    assert main(["run", str(tiny)]) == 0
    assert files("runs/tiny") == FILES
    out = capfd.readouterr().out
    assert "fedavg round=3/3 accuracy=" in out and "runs/tiny\n  config.yaml  curves.png" in out
    assert main(["run", "runs/tiny/config.yaml", "--out", "again"]) == 0
    assert results("runs/tiny") == results("again")
    assert len(results("runs/tiny")["sharp"]) == 3
    summary = Path("runs/tiny/summary.md").read_text()
    assert "\n\n- **fedavg**: K = " in summary and " clients at once, " in summary
    assert summary.count("\n- **sharp**: K = ") == 1 and "\n\n![Accuracy" in summary


def test_partition_tells_who_holds_what(tiny, capsys):
    assert main(["partition", str(tiny)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("digits: ") and lines[2].startswith("classes per client  ")
    assert main(["partition", str(tiny), "--partition.name", "natural"]) == 2
    assert "partition: samples.owner: expected samples that name their owners" in (
        capsys.readouterr().err
    )
    assert main(["partition"]) == 2 and main(["partition", "--help"]) == 0


def test_the_checkpoint_is_the_model_of_the_last_round(tiny):
    assert main(["run", str(tiny), "--out", "here"]) == 0
    found = torch.load("here/checkpoint/sharp.pt", weights_only=True)
    assert found["round"] == 3
    sim = simulation(c := config.load(tiny), prepare(c), "sharp")
    sim.run(progress=False)
    for name, tensor in sim.state_dict().items():
        assert torch.equal(found["model"][name], tensor)


def test_algorithms_differ_in_nothing_else(tiny):
    assert main(["run", str(tiny), "--algorithms.sharp.rho", "0", "--out", "same"]) == 0
    found = results("same")
    assert found["fedavg"] == found["sharp"]  # FedSAM of radius 0 is FedAvg


def fail_in(monkeypatch, label, round_, error):
    """Lets the simulation raise `error` in place of a label's round."""
    whole = round_loop.next_round

    def broken(parts):
        done = len(parts.engine.committed.rows)
        if parts.design.algorithm.name == label and done + 1 == round_:
            raise error
        return whole(parts)

    monkeypatch.setattr(round_loop, "next_round", broken)


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (KeyboardInterrupt(), 130, "stopped in sharp after round 1 of 3"),
        (RuntimeError("out of memory"), 1, "after round 1 of 3: RuntimeError: out of memory"),
        (SystemExit(0), 1, "after round 1 of 3: SystemExit: 0"),
    ],
)
def test_an_early_end_keeps_every_round_before_it(tiny, monkeypatch, capfd, error, status, says):
    fail_in(monkeypatch, "fedsam", 2, error)
    assert main(["run", str(tiny)]) == status
    said = capfd.readouterr().err
    assert says in said and "runs/tiny" in said and "Traceback" not in said
    assert files("runs/tiny") == sorted(FILES + (["error.txt"] if status == 1 else []))
    assert [len(rows) for rows in results("runs/tiny").values()] == [3, 1]
    assert torch.load("runs/tiny/checkpoint/sharp.pt", weights_only=True)["round"] == 1
    assert f"**{says.split(':')[0]}" in Path("runs/tiny/summary.md").read_text() or status == 1


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (ValueError("test: wrong"), 2, "test: wrong"),
        (KeyboardInterrupt(), 130, "stopped before the first round; nothing was kept"),
    ],
)
def test_before_the_first_round_nothing_is_kept(tiny, monkeypatch, capfd, error, status, says):
    fail_in(monkeypatch, "fedavg", 1, error)
    assert main(["run", str(tiny)]) == status
    assert capfd.readouterr().err == f"fedfast: {says}\n" and not Path("runs/tiny").exists()


def test_each_round_is_on_disk_when_it_is_over(tiny):
    with open_folder("run", c := config.load(tiny)) as folder:
        for row in train(folder, c, prepare(c), "fedavg"):
            written = read_runs("run/history.csv")["fedavg"].rows  # file still open
            assert len(written) == row.round and written[-1].loss == row.loss


def test_the_model_kept_is_that_of_the_round_not_of_later(tiny, monkeypatch, capfd):
    assert main(["run", str(tiny), "--rounds", "1", "--out", "one"]) == 0
    whole, steps = SteadyRounds.round, []

    def broken(rounds, t, *more):
        outcome = whole(rounds, t, *more)  # the engine has gone on in its buffers ...
        steps.append(t)
        if len(steps) == 2:
            raise KeyboardInterrupt  # ... and is interrupted
        return outcome

    monkeypatch.setattr(SteadyRounds, "round", broken)
    assert main(["run", str(tiny)]) == 130
    one, kept = (
        torch.load(f"{folder}/checkpoint/fedavg.pt", weights_only=True)
        for folder in ("one", "runs/tiny")
    )
    assert kept["round"] == 1
    assert all(torch.equal(t, one["model"][name]) for name, t in kept["model"].items())


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--out", "tiny.yaml"], "out: expected a folder, found a file: tiny.yaml"),
        (["--out", "tiny.yaml/x"], "out: a file is in the way of tiny.yaml/x"),
        (["--out", "/proc/none"], "out: cannot write in /proc/none"),
        (["--data.name", "digit"], "--data.name: unknown name 'digit'; did you mean 'digits'"),
        (["--data.name", "mnist", "--data.root", "no"], "data: root: data set 'mnist' needs"),
        (["--partition.clients", "9999"], "partition: clients: expected 1 <= clients <= 1437"),
        (["--model.name", "mpl"], "--model.name: unknown name 'mpl'; did you mean 'mlp'"),
        (["--rounds", "0"], "--rounds: expected a number greater than or equal to 1, found 0"),
        (["--lr.start", "0.1"], "--lr: is a value, not a section; found --lr.start"),
        (["--rounds.x=3"], "--rounds: is a value, not a section; found --rounds.x"),
        (["--partition.clients.x", "3"], "--partition.clients: is a value, not a section; found"),
        (["--model.hidden.x", "3"], "--model.hidden: is a value, not a section; found"),
        (["--seed.a.b", "1"], "--seed: is a value, not a section; found --seed.a.b"),
        (["--algorithms.sharp.rho.x", "1"], "--algorithms.sharp.rho: is a value, not a section"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(tiny, capfd, flags, says):
    assert main(["run", str(tiny), *flags]) == 2
    said = capfd.readouterr()
    assert said.err.startswith(f"fedfast: {says}") and said.err.count("\n") == 1 and not said.out
    assert files(".") == ["tiny.yaml"] and not Path("runs/tiny").exists()


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        ([], 2, "usage: fedfast COMMAND"),
        (["--help"], 0, "train the algorithms of a config file"),
        (["--version"], 0, r"fedfast \d+\.\d+"),
        (["rnu"], 2, "unknown command 'rnu'; did you mean 'run'"),
        (["run"], 2, "expected the path of a config file first, found nothing"),
        (["run", "--rounds", "3"], 2, "expected the path of a config file first, found '--rounds'"),
        (["run", "--help"], 0, "usage: fedfast run CONFIG"),
        (["run", "none.yaml"], 2, "none.yaml: cannot be read: No such file"),
    ],
)
def test_the_front_door(capfd, args, status, says):
    assert main(args) == status
    said = capfd.readouterr()
    assert re.search(says, said.out + said.err)
    assert bool(said.err) == (status != 0 and args != [])


@pytest.mark.parametrize("mode", ["new", "resume", "fresh"])
def test_of_two_runs_at_once_only_one_gets_the_folder(tiny, mode):
    with open_folder("run", c := config.load(tiny)):
        with pytest.raises(BlockingIOError, match="run: in use by another process .process"):
            with open_folder("run", c, mode=mode):
                pass
        assert files("run") == [".lock", "config.yaml", "history.csv", "run.json"]
    assert not Path("run").exists()  # no round was done


@pytest.fixture
def heard():
    """A shell that runs the tests in the background may have told them to ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_waits_until_a_file_is_written(heard):
    done = []
    with pytest.raises(KeyboardInterrupt):
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            done.append("written")
    assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_complete_folder(tiny, number, heard):
    with subprocess.Popen(
        [sys.executable, "-m", "fedfast", "run", str(tiny), "--rounds", "100000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        history = Path("runs/tiny/history.csv")
        deadline = time.monotonic() + 60
        while not (history.exists() and history.read_text().count("\n") > 3):
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "stopped in fedavg after round" in err and "Traceback" not in err
    written = [name for name in files("runs/tiny") if ".previous" not in name]
    assert written == [name for name in FILES if "sharp" not in name]
    rounds = len(results("runs/tiny")["fedavg"])
    assert f"after round {rounds} of 100000" in err
    assert torch.load("runs/tiny/checkpoint/fedavg.pt", weights_only=True)["round"] == rounds
