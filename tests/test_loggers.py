"""What loggers write is read back by their own libraries, also of a run that was killed."""

import math
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from federation import arrays, mlp, trained

import fedfast
from fedfast import loggers
from fedfast.callbacks import RunInfo
from fedfast.cli import main
from fedfast.history import READ, read_runs

ROUNDS, LABEL = 6, "tuned"
CONFIG = f"""
data: {{name: digits}}
partition: {{name: dirichlet, clients: 8, alpha: 0.3}}
model: {{name: mlp, hidden: [8]}}
algorithms: {{{LABEL}: {{name: fedwmsam, fine_tune: {{epochs: 1}}}}}}
rounds: {ROUNDS}
participation: 0.5
eval_every: 2
local_test: 0.2
client_metrics: true
threads: 1
save_rounds: 2
loggers: [tensorboard, wandb, {{name: mlflow, tracking_uri: mlruns, experiment: ours}}]
"""
# In another process, which ends as by `kill -9`: after round 5, with a state of round 4.
KILLED = f"""
import os, signal, sys
import fedfast.loggers
assert not {{"tensorboard", "wandb", "mlflow"}} & set(sys.modules)
from fedfast import config
from fedfast.cli.setting import prepare
from fedfast.runs import open_folder, train, training
training.SAVE_SHARE = 1e9
made = config.load("killed.yaml")
with open_folder(made.out, made, mode="new") as folder:
    for row in train(folder, made, prepare(made), {LABEL!r}):
        if row.round == {ROUNDS - 1}:
            os.kill(os.getpid(), signal.SIGKILL)
"""
CLOCK = {name for name in READ if "second" in name}  # of rounds that are computed again


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run that was never stopped, and one that was killed and went on."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for name in ("whole", "killed"):
            Path(f"{name}.yaml").write_text(CONFIG)
        done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert main(["resume", "runs/killed"]) == 0
        assert main(["run", "whole.yaml"]) == 0
    return home


def history(home, name):
    return read_runs(home / "runs" / name / "history.csv")[LABEL]


def columns(history):
    """name -> {round: value} of all numbers of a history that are known."""
    names = [name for name, kind in READ.items() if kind is not str and name != "round"]
    found = {
        name: dict(zip(history.column("round"), history.column(name), strict=True))
        for name in names
    }
    rows = {row.round: dict(pair.split("=") for pair in row.scalars.split()) for row in history}
    for name in {name for own in rows.values() for name in own}:
        found[f"scalars/{name}"] = dict(zip(rows, history.scalar(name), strict=True))
    kept = {n: {t: v for t, v in own.items() if not math.isnan(v)} for n, own in found.items()}
    return {name: own for name, own in kept.items() if own}


def steps(pairs):
    """{step: value}, each step once."""
    pairs = list(pairs)
    assert len({step for step, _ in pairs}) == len(pairs), pairs
    return dict(pairs)


def tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    scalars = {
        tag: steps((e.step, e.value) for e in found.Scalars(tag)) for tag in found.Tags()["scalars"]
    }
    texts = {
        tag.removesuffix("/text_summary"): found.Tensors(tag)[-1]
        .tensor_proto.string_val[0]
        .decode()
        for tag in found.Tags()["tensors"]
    }
    return scalars, texts


def wandb_records(path):
    """The records of a .wandb file, a log of LevelDB, as the messages of wandb."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, part, made = path.read_bytes(), 7, b"", []
    assert data[:at] == b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    while at < len(data):
        if 32768 - at % 32768 < 7:  # no header fits into the rest of a block
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part, at = part + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or last
            made.append(Record.FromString(part))
            part = b""
    return made


def wandb_history(path):
    import json

    found = {}
    for record in wandb_records(path):
        if record.WhichOneof("record_type") == "history":
            row = {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            for name, value in row.items():
                if not name.startswith("_"):
                    found.setdefault(name, []).append((record.history.step.num, value))
    return {name: steps(pairs) for name, pairs in found.items()}


def mlflow_client(home):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=(home / "mlruns").as_uri())


def mlflow_run(home, name):
    client = mlflow_client(home)
    experiment = client.get_experiment_by_name("ours")
    runs = client.search_runs([experiment.experiment_id], f"tags.group = '{name}'")
    assert len(runs) == 1
    return client, runs[0]


@pytest.mark.parametrize("name", ["whole", "killed"])
def test_tensorboard_reads_every_number_of_the_history_once(home, name):
    scalars, texts = tensorboard(home / "runs" / name / "tensorboard" / LABEL)
    expected = columns(history(home, name))
    assert {"lr", "accuracy", "local_worst", "personal_std", "scalars/alpha"} <= set(expected)
    rounded = {n: {t: float(np.float32(v)) for t, v in own.items()} for n, own in expected.items()}
    assert scalars == rounded
    assert "| partition.alpha | 0.3 |" in texts["options"]
    assert f"| rounds | {ROUNDS} |" in texts["outcome"]


@pytest.mark.parametrize("name", ["whole", "killed"])
def test_a_wandb_file_holds_every_number_of_the_history_once(home, name):
    import json

    (path,) = (home / "runs" / name / "wandb").glob("offline-run-*/*.wandb")
    found = wandb_history(path)
    expected = columns(history(home, name))
    assert found.pop("round") == {t: t for t in range(1, ROUNDS + 1)}
    assert found == expected
    (run,) = (r.run for r in wandb_records(path) if r.WhichOneof("record_type") == "run")
    assert (run.project, run.run_group, run.display_name) == ("fedfast", name, f"{name}/{LABEL}")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["partition.alpha"] == 0.3 and config["algorithm.name"] == "fedwmsam"


@pytest.mark.parametrize("name", ["whole", "killed"])
def test_mlflow_reads_every_number_of_the_history_once(home, name):
    client, run = mlflow_run(home, name)
    expected = columns(history(home, name))
    assert set(run.data.metrics) == set(expected)
    for metric, values in expected.items():
        read = client.get_metric_history(run.info.run_id, metric)
        found = steps((m.step, m.value) for m in read)
        again = {ROUNDS - 1} if name == "killed" and metric in CLOCK else set()
        assert {t: v for t, v in found.items() if t not in again} == {
            t: v for t, v in values.items() if t not in again
        }
    assert run.info.status == "FINISHED" and run.info.run_name == f"{name}/{LABEL}"
    assert run.data.params["partition.alpha"] == "0.3" and run.data.params["label"] == LABEL
    best = history(home, name).best()
    assert float(run.data.tags["outcome.best_accuracy"]) == best.accuracy


def test_the_clients_of_a_killed_run_are_those_of_one_that_never_stopped(home):
    texts = [(home / "runs" / name / "clients.csv").read_text() for name in ("whole", "killed")]
    assert texts[0] == texts[1]
    frame = pd.read_csv(home / "runs" / "whole" / "clients.csv")
    assert set(frame.algorithm) == {LABEL} and set(frame["round"]) == {2, 4, 6}
    means = frame.groupby("round")
    for row in history(home, "whole"):
        if row.evaluated:
            mine = means.get_group(row.round)
            assert mine.accuracy.mean() == pytest.approx(row.local_accuracy, rel=1e-12)
            assert mine.accuracy.std(ddof=0) == pytest.approx(row.local_std, rel=1e-12)
            assert mine.accuracy.nsmallest(1).mean() == pytest.approx(row.local_worst, rel=1e-12)
            right = (mine.accuracy * mine.samples).sum() / mine.samples.sum()
            assert right == pytest.approx(row.pooled_accuracy, rel=1e-12)
    assert mine.personal_accuracy.mean() == pytest.approx(row.personal_accuracy, rel=1e-12)
    assert frame[frame["round"] < ROUNDS].personal_accuracy.isna().all()


def simulation(rounds=4, **options):
    clients = fedfast.FederatedData.from_arrays(*arrays([6, 9, 5]))
    return fedfast.Simulation(mlp(), clients, "fedavg", rounds=rounds, threads=1, **options)


def test_more_rounds_go_on_in_the_same_runs(home, monkeypatch):
    """Taken on from a folder that had no logger of this kind: it gets all rounds."""
    monkeypatch.chdir(home)
    before = mlflow_run(home, "whole")[1].info.run_id
    flags = ["--rounds", str(ROUNDS + 2), "--loggers"]
    more = ["{name: tensorboard, dir: boards}", "{name: mlflow, tracking_uri: mlruns}"]
    assert main(["resume", "runs/whole", *flags, *more]) == 0
    scalars, _ = tensorboard(home / "boards" / "whole" / LABEL)
    assert list(scalars["lr"]) == list(range(1, ROUNDS + 3))
    client, run = mlflow_run(home, "whole")
    assert run.info.run_id == before
    read = client.get_metric_history(before, "train_loss")
    found = steps((m.step, m.value) for m in read)
    assert list(found.values()) == history(home, "whole").column("train_loss")
    assert run.data.params["rounds"] == str(ROUNDS)
    assert run.data.tags["rounds"] == str(ROUNDS + 2)


def test_a_signal_between_a_round_and_its_log_costs_no_number(tmp_path):
    """Raised by a callback before the loggers: they are not called again for the round."""

    def interrupt(sim, row):
        if row.round == 2:
            raise KeyboardInterrupt

    clients = fedfast.FederatedData.from_arrays(
        *arrays([6, 9, 5]), test=list(zip(*arrays([4, 0, 7]), strict=True))
    )
    made = [loggers.TensorBoard(tmp_path), loggers.ClientsFile(tmp_path / "clients.csv")]
    sim = fedfast.Simulation(mlp(), clients, "fedavg", rounds=3, callbacks=[interrupt, *made])
    with pytest.raises(KeyboardInterrupt):
        sim.run(progress=False)
    frame = pd.read_csv(tmp_path / "clients.csv")
    assert list(zip(frame["round"], frame.client, strict=True)) == [(1, 0), (1, 2), (2, 0), (2, 2)]
    (tmp_path / "clients.csv").write_text((tmp_path / "clients.csv").read_text()[:-5])  # torn
    sim.run(progress=False)
    frame = pd.read_csv(tmp_path / "clients.csv")
    assert frame.groupby("round").size().to_dict() == {1: 2, 2: 2, 3: 2}
    assert frame.groupby("round").accuracy.mean().tolist() == sim.history.column("local_accuracy")
    scalars, _ = tensorboard(tmp_path / "fedavg")
    assert list(scalars["local_accuracy"]) == [1, 2, 3]


def test_a_full_disk_at_the_clients_file_is_named(tmp_path):
    clients = fedfast.FederatedData.from_arrays(
        *arrays([6, 9, 5]), test=list(zip(*arrays([4, 0, 7]), strict=True))
    )
    made = loggers.ClientsFile(tmp_path / "clients.csv")

    def fill(sim, row):
        made._file.close()
        made._file = Path("/dev/full").open("a")

    sim = fedfast.Simulation(mlp(), clients, "fedavg", rounds=3, callbacks=[fill, made])
    with pytest.raises(OSError, match="/dev/full"):
        sim.run(progress=False)
    assert sim.round == 1
    sim.save(tmp_path / "state")


def test_a_log_in_python_has_a_folder_of_its_own_for_each_run(tmp_path):
    for _ in range(2):
        made = loggers.TensorBoard(tmp_path)
        sim = simulation(callbacks=[made])
        for row in sim:
            if row.round == 2:
                break
        sim.run(progress=False)
    for name in ("fedavg", "fedavg-2"):
        scalars, texts = tensorboard(tmp_path / name)
        assert list(scalars["lr"]) == [1, 2, 3, 4]
        assert "| lr | 0.1 |" in texts["options"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_store_that_goes_in_the_middle_costs_no_round(tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr("fedfast.callbacks.loggers.mlflow.EVERY", 0.0)
    made = loggers.MLflow(str(tmp_path / "store"))

    def gone(sim, row):
        if row.round == 2:
            shutil.rmtree(tmp_path / "store")

    sim = simulation(rounds=5, callbacks=[made, gone])
    with pytest.warns(UserWarning) as caught:
        sim.run(progress=False)
    first, last = [str(warning.message) for warning in caught]
    assert first.startswith("logger mlflow failed in round 3: ") and "goes on without it" in first
    assert last.startswith("logger mlflow has logged 2 of 5 rounds: it failed in round 3: ")
    assert sim.round == 5 and "\n" not in first + last
    plain = trained(*simulation_arguments(), rounds=5, threads=1)
    assert plain.history.column("train_loss") == sim.history.column("train_loss")


def simulation_arguments():
    return mlp(), fedfast.FederatedData.from_arrays(*arrays([6, 9, 5])), "fedavg"


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_named_before_training(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fedfast.callbacks.loggers.base.find_spec", lambda package: None)
    text = CONFIG[: CONFIG.index("loggers")] + f"loggers: [{name}]\n"
    Path("run.yaml").write_text(text)
    assert main(["run", "run.yaml"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.endswith(f'found none: pip install "fedfast[{name}]"') and "\n" not in error
    assert not Path("runs/run").exists()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda at: loggers.TensorBoard(),
            "logger tensorboard: cannot begin: dir: expected a fold",
        ),
        (lambda at: loggers.TensorBoard(at / "file"), "logger tensorboard: cannot begin: .*file"),
        (lambda at: loggers.MLflow("ftp:nowhere"), "logger mlflow: cannot begin: .*ftp"),
        (
            lambda at: loggers.WandB(mode="ofline"),
            "mode: unknown name .ofline.; did you mean .offline.",
        ),
        (lambda at: loggers.ClientsFile(at / "c"), "client_metrics: expected clients with test"),
    ],
)
def test_what_cannot_begin_says_so_before_training(made, message, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=message):
        sim = simulation(callbacks=[made(tmp_path)])
        sim.run(progress=False)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_run_without_a_round_leaves_no_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sim = simulation(callbacks=[loggers.TensorBoard(), loggers.MLflow("store"), stop_at_once()])
    sim.info = RunInfo(LABEL, tmp_path / "run")
    sim.info.folder.mkdir()
    with pytest.raises(ValueError, match="not today"):
        sim.run(progress=False)
    assert not any(sim.info.folder.iterdir())


class stop_at_once:
    def on_start(self, sim, run):
        raise ValueError("not today")
