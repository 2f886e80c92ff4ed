"""`fedfast explain`: accuracy per class against counting, Grad-CAM against captum on the module."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedfast.cli import main
from fedfast.explain import class_accuracy, grad_cam
from fedfast.explain.class_accuracy import NAME, of_rows
from fedfast.report import explain_figures
from fedfast.runs import measured_rows
from fedfast.runs.models_of import open_run
from fedfast.runs.run_models import RunModels

CONFIG = """\
data: {name: digits}
partition: {name: dirichlet, clients: 6, alpha: 0.5}
model: {name: cnn, channels: [3, 4], kernel: 3, hidden: [8]}
algorithms: {fedavg: {}}
rounds: 2
participation: 0.5
local_epochs: 1
threads: 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    (folder / "c.yaml").write_text(CONFIG)
    assert main(["run", str(folder / "c.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def filled(run, row) -> nn.Module:
    run.layout.write(row, run.module)
    return run.module.eval()


def test_accuracies_are_what_counting_finds(run, tmp_path):
    argv = ["explain", str(run), "--clients", "4,0", "--images", "0", "--out", str(tmp_path)]
    assert main([*argv, "--format", "png"]) == 0
    found = open_run(run)
    models = dict(zip(("4", "0"), found.local_rows([4, 0]), strict=True))
    with (run / NAME).open() as file:
        rows = list(csv.DictReader(file))
    assert [r["model"] for r in rows] == [
        name for name in ("global model", "client 4", "client 0") for _ in range(10)
    ]
    for row in rows:
        model = models.get(row["model"].removeprefix("client "), found.global_row())
        with torch.no_grad():
            guess = filled(found, model)(found.test.inputs()).argmax(1)
        own = [int(g) for g, y in zip(guess, found.test.y, strict=True) if y == int(row["class"])]
        right = sum(g == int(row["class"]) for g in own)
        assert (int(row["samples"]), float(row["correct"])) == (len(own), right)
        assert float(row["accuracy"]) == right / len(own)
    assert (tmp_path / "classes-fedavg.png").stat().st_size > 5000


def test_a_class_without_samples_has_no_accuracy(run):
    found = open_run(run)
    few = found.test.take(found.test.y != 3)
    evaluator = found.simulation._components.evaluator()
    counts = class_accuracy(evaluator, {"g": found.global_row()}, few, 10)
    assert np.isnan(counts.accuracy[0, 3]) and np.isfinite(np.delete(counts.accuracy, 3)).all()
    (back,) = of_rows([{k: str(v) for k, v in r.items()} for r in counts.rows("x")]).values()
    assert np.array_equal(back.correct, counts.correct)
    figure = explain_figures.classes(counts, "x")
    assert len(figure.axes[0].texts) == 9


def test_maps_are_captums_and_the_formulas(run):
    attr = pytest.importorskip("captum").attr
    found = open_run(run)
    module = filled(found, found.local_rows([2])[0])
    x, y = found.test.inputs()[:3], found.test.y[:3]
    ours = grad_cam(module, x, y, "conv2")
    theirs = attr.LayerGradCam(module, module.conv2).attribute(x, y, relu_attributions=True)
    theirs = attr.LayerAttribution.interpolate(theirs, (8, 8), "bilinear")[:, 0]
    assert torch.equal(ours, theirs) and torch.equal(ours, grad_cam(module, x, y))
    # By hand, at the size of the layer's own planes: the mean gradient weighs the planes.
    a = module.pool1(module.relu1(module.conv1(x)))
    a = module.conv2(a).detach().requires_grad_()
    rest = module[list(dict(module.named_children())).index("conv2") + 1 :]
    (g,) = torch.autograd.grad(rest(a)[range(3), y].sum(), a)
    by_hand = (g.mean((2, 3), keepdim=True) * a).sum(1, keepdim=True).relu()
    by_hand = nn.functional.interpolate(by_hand, (8, 8), mode="bilinear")[:, 0]
    assert (ours - by_hand).abs().max() < 1e-6 and ours.max() > 0


def test_the_command_draws_maps(run, tmp_path):
    pytest.importorskip("captum")
    argv = ["explain", str(run), "--clients", "0", "--images", "2", "--layer", "conv1"]
    assert main([*argv, "--out", str(tmp_path), "--format", "png,pdf"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {
        f"{name}-fedavg.{kind}" for name in ("classes", "grad-cam") for kind in ("png", "pdf")
    }
    assert {row["model"] for row in measured_rows.read(run, NAME)} == {"global model", "client 0"}


def test_a_client_that_diverges_has_an_empty_map(run, tmp_path, monkeypatch):
    pytest.importorskip("captum")
    found = []
    maps = explain_figures.maps
    monkeypatch.setattr(explain_figures, "maps", lambda *a: found.append(maps(*a)) or found[-1])
    monkeypatch.setattr(
        RunModels, "local_rows", lambda self, ids: torch.full_like(self.global_row()[None], np.nan)
    )
    argv = ["explain", str(run), "--clients", "0", "--images", "2", "--out", str(tmp_path)]
    assert main([*argv, "--format", "png"]) == 0
    said = [[text.get_text() for text in ax.texts] for ax in found[0].axes[:6]]
    assert said == [[], [], [], [], ["not finite"], ["not finite"]]  # images, global, client


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--clients", "6", "--images", "0"], "clients: expected ids below 6; got 6"),
        (["--clients", "a"], "--clients: expected numbers of clients; got 'a'"),
        (["--images", "-1"], "--images: expected 0 or more; got -1"),
        (["--layer", "conv3"], "conv3"),
        (["--layer", "fc1"], "fc1"),
        (["--labels", "none"], "label: unknown name 'none'"),
    ],
)
def test_what_is_wrong_is_said(run, argv, message, capsys, tmp_path):
    pytest.importorskip("captum")
    assert main(["explain", str(run), *argv, "--out", str(tmp_path)]) == 2
    found = capsys.readouterr()
    assert message in found.err and not found.out  # nothing was written before


def test_a_model_without_convolutions_has_no_maps():
    pytest.importorskip("captum")
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(ValueError, match="without"):
        grad_cam(module, torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.long))


def test_the_command_leaves_maps_out_of_a_model_without_convolutions(tmp_path, capsys):
    config = CONFIG.replace("name: cnn, channels: [3, 4], kernel: 3,", "name: mlp,")
    (tmp_path / "c.yaml").write_text(config)
    assert main(["run", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["explain", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    assert "no Grad-CAM: the model has no convolutions" in capsys.readouterr().out
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"classes-fedavg.png", "classes-fedavg.pdf"}


def test_all_labels_of_all_runs_are_explained(tmp_path, capsys):
    config = CONFIG.replace("algorithms: {fedavg: {}}", "algorithms: {fedavg: {}, fedsam: {}}")
    (tmp_path / "c.yaml").write_text(config)
    runs = [str(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        assert main(["run", str(tmp_path / "c.yaml"), "--out", run]) == 0
    few = ["--images", "0", "--format", "png"]
    assert main(["explain", *runs, "--out", str(tmp_path / "out"), *few]) == 0
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {
        f"classes-{run}-{label}" for run in "ab" for label in ("fedavg", "fedsam")
    }
    for run in runs:
        rows = measured_rows.read(Path(run), NAME)
        assert [row["label"] for row in rows] == ["fedavg"] * 10 + ["fedsam"] * 10
    for flag in ("--labels", "--label"):
        assert main(["explain", runs[0], flag, "fedsam", "--out", str(tmp_path / flag), *few]) == 0
        assert [path.stem for path in (tmp_path / flag).iterdir()] == ["classes-fedsam"]
