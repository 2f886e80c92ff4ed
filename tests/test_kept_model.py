"""Rows of `fedfast reproduce` keep the global model alone: it is opened, and clients' models where
nothing else takes part in their training; what is missing otherwise is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import fedfast
from fedfast import checkpoint
from fedfast.cli import main
from fedfast.runs.reading import state_of

LABELS = {
    "fedavg": {},
    "adam": {"name": "fedadam"},
    "gh": {"name": "fedgh"},
    "dyn": {"name": "feddyn"},
    "nsam": {"name": "fednsam"},
    "ahead": {"name": "fednsam-single"},
    "wmsam": {"name": "fedwmsam"},
}
CONFIG = f"""\
data: {{name: digits}}
partition: {{name: dirichlet, clients: 6, alpha: 0.5}}
model: {{name: keptnet:Net}}
algorithms: {LABELS}
rounds: 2
participation: 0.5
batch_size: 20
drop_last: true
threads: 1
seed: 3
paper:
  source: Somebody et al., Table 1
  seeds: [3]
  measures: [{{summary: last, published: {dict.fromkeys(LABELS, 50)}}}]
"""
MODULE = """\
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        norm = nn.BatchNorm1d(6)
        super().__init__(nn.Flatten(), nn.Linear(64, 6), norm, nn.ReLU(), nn.Linear(6, 10))
"""
LOST = {
    "dyn": "its clients train from the server's h, clients' h_i too",
    "nsam": "its clients train from the server's momentum too",
    "ahead": "its clients train from the server's momentum too",
    # Its alpha is in the history.
    "wmsam": "its clients train from the server's c, the server's m, clients' c_i too",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(a run with its states, rows of `fedfast reproduce` without, by label)"""
    top = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        (top / "keptnet.py").write_text(MODULE)
        (top / "somebody").mkdir()
        (top / "somebody" / "table1.yaml").write_text(CONFIG)
        assert main(["run", "somebody/table1.yaml", "--out", "whole"]) == 0
        assert main(["reproduce", "somebody", "--out", "rows"]) == 0
        rows = {label: top / "rows/somebody/table1" / label / "seed-3" for label in LABELS}
        assert not any(checkpoint.exists(state_of(rows[label], label)) for label in LABELS)
        yield top / "whole", rows


@pytest.mark.parametrize("label", LABELS)
def test_the_global_model_is_that_of_the_state(folders, label):
    whole, rows = folders
    kept, expected = fedfast.open_run(rows[label]), fedfast.open_run(whole, label)
    assert kept.model_only and not expected.model_only
    assert kept.simulation.round == expected.simulation.round == 2
    assert torch.equal(kept.global_row(), expected.global_row())
    # Running statistics are part of it, and have moved.
    assert kept.model()[2].running_mean.abs().max() > 0


@pytest.mark.parametrize("label", sorted(LABELS.keys() - LOST.keys()))
def test_clients_that_need_nothing_else_are_trained_as_from_the_state(folders, label):
    """The rule's own momentum, and numbers that are in the history, are nothing to them."""
    whole, rows = folders
    found = fedfast.open_run(rows[label]).local_rows([0, 4])
    assert torch.equal(found, fedfast.open_run(whole, label).local_rows([0, 4]))


def test_numbers_of_the_server_are_those_of_the_history(folders):
    whole, rows = folders
    for label in ("gh", "wmsam"):
        kept, expected = fedfast.open_run(rows[label]), fedfast.open_run(whole, label)
        found, theirs = (run.simulation._engine.state.scalars for run in (kept, expected))
        assert (
            found == theirs
            and found.keys() >= {"gh": {"conflicts_before"}, "wmsam": {"alpha"}}[label]
        )


def test_a_momentum_that_others_components_may_read_is_lost(folders, monkeypatch):
    kept = fedfast.open_run(folders[1]["adam"])
    monkeypatch.setattr(kept.simulation._engine.hooks, "foreign", True)
    with pytest.raises(ValueError, match="train from the server's momentum too"):
        kept.local_rows([0])


def test_there_are_no_personal_models(folders):
    rows = folders[1]
    with pytest.raises(ValueError, match=r"checkpoint/fedavg\.pt holds the global model of fedavg"):
        fedfast.open_run(rows["fedavg"]).personal_rows([0])


@pytest.mark.parametrize("label", LOST)
def test_what_clients_need_and_is_gone_is_named(folders, label):
    kept = fedfast.open_run(folders[1][label])
    assert kept.local_rows([]).shape == (0, kept.layout.stride)
    with pytest.raises(ValueError, match=rf"{label}\.pt holds .* {LOST[label]}"):
        kept.local_models([0])


@pytest.mark.parametrize("command", ["explain", "hessian", "landscape", "sharpness"])
def test_commands_measure_the_global_model_and_refuse_clients(folders, command, capsys):
    row = folders[1]["dyn"]
    few = {"landscape": ["--grid", "2"], "explain": []}.get(command, ["--samples", "30"])
    assert main([command, str(row), "--format", "png", *few]) == 0
    said = capsys.readouterr().err
    told = "fedfast: without clients: " if command == "sharpness" else ""
    assert said.startswith(told) and bool(said) == bool(told)
    assert main([command, str(row), "--clients", "0", *few]) == 2
    assert LOST["dyn"] in capsys.readouterr().err


def test_agreement_is_of_clients(folders, capsys):
    assert main(["agreement", str(folders[1]["dyn"])]) == 2
    assert LOST["dyn"] in capsys.readouterr().err
    assert main(["agreement", str(folders[1]["fedavg"]), "--format", "png"]) == 0


def damaged(folders, tmp_path, label="fedavg") -> tuple[Path, Path]:
    folder = shutil.copytree(folders[1][label], tmp_path / "row")
    return folder, folder / "checkpoint" / f"{label}.pt"


def test_a_row_without_its_model_says_so(folders, tmp_path):
    folder, path = damaged(folders, tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="row: kept neither a state nor a model of fedavg"):
        fedfast.open_run(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda kept: kept | {"round": 1}, "expected the model after round 2; got round 1"),
        (lambda kept: {"model": kept["model"]}, "expected {round, model} as runs keep them"),
        (lambda kept: [1, 2], "expected {round, model} as runs keep them"),
        (
            lambda kept: kept | {"model": {"0.weight": torch.zeros(2)}},
            "expected a model of the run's config; .*Missing key",
        ),
    ],
)
def test_a_model_of_another_run_is_refused(folders, tmp_path, change, told):
    folder, path = damaged(folders, tmp_path)
    torch.save(change(torch.load(path)), path)
    with pytest.raises(ValueError, match=rf"fedavg\.pt: {told}"):
        fedfast.open_run(folder)


def test_a_file_cut_short_is_named(folders, tmp_path, capsys):
    folder, path = damaged(folders, tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    assert main(["hessian", str(folder)]) == 2
    assert "checkpoint/fedavg.pt: expected {round, model}" in capsys.readouterr().err


def test_buffers_that_training_moves_and_no_file_holds_are_named(folders, tmp_path, monkeypatch):
    """`state_dict` leaves out buffers that are not persistent; the state has them."""
    folder, path = damaged(folders, tmp_path)
    kept = torch.load(path)
    del kept["model"]["2.running_mean"]
    torch.save(kept, path)
    load = torch.nn.Module.load_state_dict
    monkeypatch.setattr(
        torch.nn.Module, "load_state_dict", lambda self, given: load(self, given, strict=False)
    )
    with pytest.raises(ValueError, match=r"all that training moves; it lacks 2\.running_mean"):
        fedfast.open_run(folder)
