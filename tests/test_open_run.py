"""`fedfast.open_run`: modules of a finished run have the weights and losses of its files."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import fedfast
from fedfast.cli import main
from fedfast.history import read_runs

CONFIG = """\
data: {name: digits}
partition: {name: dirichlet, clients: 6, alpha: 0.5}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, fedsam: {}}
rounds: 2
participation: 0.5
threads: 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open")
    (folder / "c.yaml").write_text(CONFIG)
    assert main(["run", str(folder / "c.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_the_global_model_has_the_weights_and_the_loss_that_the_run_kept(run):
    found = fedfast.open_run(run, "fedsam")
    model = found.model()
    kept = torch.load(run / "checkpoint" / "fedsam.pt")["model"]
    assert {k: v.tolist() for k, v in model.state_dict().items()} == {
        k: v.tolist() for k, v in kept.items()
    }
    last = read_runs(run / "history.csv")["fedsam"].last()
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(found.test.inputs()), found.test.y)
    assert loss.item() == pytest.approx(last.loss, rel=1e-5) and not model.training


def test_local_models_are_the_local_rows_and_their_own(run):
    found = fedfast.open_run(run, "fedavg")
    models, rows = found.local_models([4, 1]), found.local_rows([4, 1])
    for model, row in zip(models, rows, strict=True):
        assert torch.equal(found.layout.flatten(model), row)
    with torch.no_grad():
        next(models[0].parameters()).zero_()
    assert torch.equal(found.layout.flatten(models[1]), rows[1])
    assert torch.equal(found.layout.flatten(found.model()), found.global_row())


@pytest.mark.parametrize("name", ["explain.grad_cam", "landscape.surface", "open_run"])
def test_names_that_pages_use_need_no_other_import(name):
    code = f"import fedfast; fedfast.{name}"
    subprocess.run([sys.executable, "-c", code], check=True)
