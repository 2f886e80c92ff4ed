"""`fedfast hessian`: a run's models against torch's Hessian, files, figures, mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from fedfast.cli import main
from fedfast.data import Samples
from fedfast.metrics.hessian import of_runs, spectrum
from fedfast.report import hessian_figures
from fedfast.runs import measured_rows
from fedfast.runs.few_samples import few
from fedfast.runs.models_of import RunModels, open_run

CONFIG = """\
data: {name: digits}
partition: {name: dirichlet, clients: 12, alpha: 0.5}
model: {name: mlp, hidden: [4]}
algorithms: {fedavg: {}, fedgloss: {}}
rounds: 2
participation: 0.5
batch_size: 20
lr: 0.1
threads: 1
"""
CLIENTS, SAMPLES = (2, 7), 90
FLAGS = ["--samples", str(SAMPLES), "--format", "png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two labels."""
    made = tmp_path_factory.mktemp("hessian")
    (made / "small.yaml").write_text(CONFIG)
    assert main(["run", str(made / "small.yaml"), "--out", str(made / "run")]) == 0
    return made / "run"


def explicit(run: RunModels, row: Tensor, samples: Samples) -> np.ndarray:
    """All eigenvalues, descending: torch's Hessian of the module's loss in float64."""
    x, y = samples.inputs(torch.float64), samples.y
    module = run.module.double()
    params = {k: v.detach().double() for k, v in run.layout.tensors(row).items()}
    shapes, names = [p.shape for p in params.values()], list(params)
    flat = torch.cat([p.flatten() for p in params.values()])

    def loss(w: Tensor) -> Tensor:
        parts = w.split([s.numel() for s in shapes])
        held = {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(functional_call(module, held, (x,)), y)

    matrix = torch.autograd.functional.hessian(loss, flat, vectorize=True)
    return np.linalg.eigvalsh(matrix.numpy())[::-1]


@pytest.mark.parametrize("label", ["fedavg", "fedgloss"])
def test_the_file_holds_the_eigenvalues_of_the_explicit_matrix(folder: Path, label: str) -> None:
    chosen = ["--labels", label, "--clients", "2,7", "--top", "3", "--trace", "--density"]
    assert main(["hessian", str(folder), *chosen, *FLAGS]) == 0
    rows = [row for row in measured_rows.read(folder, spectrum.NAME) if row["label"] == label]
    read = {(one.model, one.data): one for one in spectrum.of_rows(rows)}
    run = open_run(folder, label)
    train, local = few(run.data.samples, SAMPLES, 0), run.local_rows(CLIENTS)
    models = {("global", "train"): (run.global_row(), train)}
    for i, row in zip(CLIENTS, local, strict=True):
        models[str(i), "own"] = row, few(run.data.client(i), SAMPLES, 0)
        models[str(i), "train"] = row, train
    assert read.keys() == models.keys()
    for key, (row, samples) in models.items():
        expected = explicit(open_run(folder, label), row, samples)
        assert read[key].values == pytest.approx(expected[:3], rel=1e-4), key
        assert read[key].converged and read[key].samples == len(samples) <= SAMPLES
        assert read[key].round == 2
    found = read["global", "train"]
    expected = explicit(open_run(folder, label), *models["global", "train"])
    assert found.trace is not None and found.density is not None
    assert found.trace[0] == pytest.approx(expected.sum(), abs=4 * found.trace[1])
    assert found.trace[1] < 0.2 * expected.sum()
    grid, values = found.density
    assert np.trapezoid(values, grid) == pytest.approx(1)
    width = grid[-1] - grid[0]
    assert np.trapezoid(grid * values, grid) == pytest.approx(expected.mean(), abs=0.02 * width)


def test_measuring_again_replaces_rows_of_the_label_and_leaves_the_run_alone(folder: Path) -> None:
    kept = {name: (folder / name).read_bytes() for name in ("history.csv", "config.yaml")}
    state = (folder / "checkpoint" / "fedgloss.state").read_bytes()
    assert main(["hessian", str(folder), "--clients", "1", "--top", "2", *FLAGS]) == 0
    first = measured_rows.read(folder, spectrum.NAME)
    assert len(first) == 2 * 3 * 2  # labels, models, eigenvalues
    assert main(["hessian", str(folder), "--labels", "fedavg", "--top", "2", *FLAGS]) == 0
    second = measured_rows.read(folder, spectrum.NAME)
    own = {label: [r for r in second if r["label"] == label] for label in ("fedavg", "fedgloss")}
    assert own["fedgloss"] == [row for row in first if row["label"] == "fedgloss"]
    assert own["fedavg"] == [row for row in first if row["label"] == "fedavg"][:2]  # no client's
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    assert (folder / "checkpoint" / "fedgloss.state").read_bytes() == state


def test_no_bit_depends_on_the_other_clients(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(folder, "fedgloss")
    of = {c: of_runs.measure(run, of_runs.Wanted(c, samples=SAMPLES)) for c in ((2, 7), (7,))}
    assert of[2, 7][3:] == of[7,][1:] and of[2, 7][0] == of[7,][0]
    monkeypatch.setattr(of_runs, "MEMORY", 1)  # one model after another
    assert of_runs.measure(run, of_runs.Wanted((2, 7), samples=SAMPLES)) == of[2, 7]


def test_what_did_not_converge_is_marked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["hessian", str(folder), "--labels", "fedavg", "--steps", "2", *FLAGS]) == 0
    said = capsys.readouterr().out
    (row,) = [r for r in measured_rows.read(folder, spectrum.NAME) if r["label"] == "fedavg"]
    assert row["converged"] == "False" and f"{float(row['value']):.4g}*\n" in said
    assert "* not converged" in said
    assert main(["hessian", str(folder), "--labels", "fedavg", *FLAGS]) == 0
    assert "*" not in capsys.readouterr().out


def test_the_report_has_the_figures(folder: Path) -> None:
    assert main(["hessian", str(folder), "--density", *FLAGS]) == 0
    assert (folder / "hessian.png").stat().st_size > 1000
    assert main(["report", str(folder), "--format", "png"]) == 0
    page = (folder / "report" / "report.html").read_text()
    assert "Largest eigenvalues of the Hessian" in page and "hessian-density.png" in page


def test_figures_show_what_was_measured() -> None:
    def one(label: str, model: str, data: str, value: float) -> spectrum.Spectrum:
        curve = np.array([[0.0, 1.0, 2.0], [1.0, value, 0.1]]) if model == "global" else None
        return spectrum.Spectrum(label, 3, model, data, 9, (value,), (0.0,), True, density=curve)

    found = [one("a", "global", "train", 2), one("a", "0", "own", 50), one("a", "0", "train", 3)]
    found += [one("b", "global", "train", 4)]
    made = hessian_figures.figures(found)
    (ax,) = made["hessian"].axes
    drawn = {line.get_label(): list(line.get_xdata()) for line in ax.lines}
    assert list(drawn.values()) == [[2, 4], [50], [3]]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_xscale() == "log"
    (ax,) = made["hessian-density"].axes
    assert [line.get_ydata()[1] for line in ax.lines] == [2, 4] and ax.get_yscale() == "log"
    assert list(hessian_figures.figures(found[1:3])) == ["hessian"]


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "expected folders of runs, found nothing"),
        (["nowhere"], "nowhere: expected a run folder, found no run"),
        (["RUN", "--labels", "fedsam"], "label: unknown name 'fedsam'"),
        (["RUN", "--clients", "12"], "clients: expected ids below 12; got 12"),
        (["RUN", "--clients", "one"], "--clients: expected numbers of clients; got 'one'"),
        (["RUN", "--top", "0"], "top: expected at least 1; got 0"),
        (["RUN", "--top", "9", "--steps", "8"], "top: expected at most 8"),
        (["RUN", "--samples", "0"], "samples: expected at least 1; got 0"),
        (["RUN", "--seed", "-1"], "seed: expected at least 0; got -1"),
        (["RUN", "--format", "gif"], "--format: expected png, pdf, svg, eps; got 'gif'"),
    ],
)
def test_mistakes_are_a_line(
    folder: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["hessian", *(str(folder) if flag == "RUN" else flag for flag in flags)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_lines_of_another_command_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hessian\.csv: expected what `fedfast hessian`"):
        spectrum.of_rows([{"label": "a", "value": "1"}])


def test_metrics_are_an_attribute_of_the_package() -> None:
    code = "import fedfast; print(fedfast.metrics.Hessian.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Hessian"
