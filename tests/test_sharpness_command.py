"""`fedfast sharpness`: models of runs against their evaluation, files, figure, mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from run_figures import outside, overlapping

from fedfast.cli import main
from fedfast.metrics import MeanLosses, adaptive_sharpness, sam_sharpness
from fedfast.metrics.sharpness import of_runs, sharpness_rows
from fedfast.report import sharpness_figures
from fedfast.runs import measured_rows
from fedfast.runs.models_of import RunModels, open_run

CONFIG = """\
data: {name: digits}
partition: {name: dirichlet, clients: 12, alpha: 0.2}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, fedsam: {}}
rounds: 2
participation: 0.25
batch_size: 20
lr: 0.1
threads: 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    folder = tmp_path_factory.mktemp("sharpness")
    (folder / "small.yaml").write_text(CONFIG)
    assert main(["run", str(folder / "small.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def rise(run: RunModels, row: torch.Tensor, client: int, rho: float) -> float:
    """SAM's sharpness of one model on one client's samples, in float64 and one pass."""
    samples, module = run.data.client(client), run.module.eval()
    run.layout.write(row, module)
    module = module.double()
    x, parameters = samples.inputs(torch.float64), list(module.parameters())
    before = F.cross_entropy(module(x), samples.y)
    grads = torch.autograd.grad(before, parameters)
    length = torch.cat([g.flatten() for g in grads]).norm()
    with torch.no_grad():
        for p, g in zip(parameters, grads, strict=True):
            p.add_(rho * g / length)
        return float(F.cross_entropy(module(x), samples.y) - before)


def test_clients_on_their_own_samples(run: Path) -> None:
    found = of_runs.measure(open_run(run, "fedsam"), [7, 2], rho=0.1)
    assert found.clients == ["2", "7"] and found.round == 2
    opened = open_run(run, "fedsam")
    rows, start = opened.local_rows([2, 7]), opened.global_row()
    spans = {s.name: (s.offset, s.stop) for s in opened.layout.slots if s.trained}
    for i, row in zip((2, 7), rows, strict=True):
        value = found.values[str(i), "own", "sharpness", ""]
        assert value == found.values[str(i), "own", "surrogate_gap", ""]
        assert value == pytest.approx(rise(open_run(run, "fedsam"), row, i, 0.1), rel=1e-4)
        change = (row.double() - start.double()).numpy()
        far = found.values[str(i), "", "flatness_distance", ""]
        assert far == pytest.approx(np.linalg.norm(change), rel=1e-9)
        for name, (a, b) in spans.items():
            moved = found.values[str(i), "", "layer_sensitivity", name]
            assert moved == pytest.approx((change[a:b] ** 2).mean(), rel=1e-6)


def test_a_client_does_not_depend_on_the_others(run: Path) -> None:
    several = of_runs.measure(open_run(run, "fedavg"), [1, 3, 5], steps=2)
    alone = of_runs.measure(open_run(run, "fedavg"), [3], steps=2)
    assert {key: several.values[key] for key in alone.values} == alone.values
    assert several.values["3", "own", "sharpness", ""] != pytest.approx(
        several.values["3", "own", "surrogate_gap", ""], rel=1e-9
    )


def test_asam_has_a_radius_of_its_own(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_run(run, "fedsam")
    found = of_runs.measure(opened, [2], rho=0.1, asam_rho=0.3)
    losses = MeanLosses(
        opened.module, opened.data.client(2), rows=opened.local_rows([2]), layout=opened.layout
    )
    for what, of, rho in (
        ("sharpness", sam_sharpness, 0.1),
        ("adaptive_sharpness", adaptive_sharpness, 0.3),
    ):
        assert found.values["2", "own", what, ""] == of(losses, rho).item()
    one = ["sharpness", str(run), "--labels", "fedsam", "--clients", "2", "--format", "png"]
    assert main([*one, "--rho", "0.1", "--asam-rho", "0.3"]) == 0
    assert "rho = 0.1; ASAM sharpness: within\n  0.3," in capsys.readouterr().out
    rows = measured_rows.read(run, sharpness_rows.NAME)
    assert sharpness_rows.of_rows(rows) == [found]
    older = [{k: v for k, v in row.items() if k != "asam_rho"} for row in rows]
    assert sharpness_rows.of_rows(older)[0].ascent.asam_rho == 0.1  # there was one for both
    assert main(one) == 0
    assert {row["asam_rho"] for row in measured_rows.read(run, sharpness_rows.NAME)} == {"0.5"}


def test_files_table_and_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = (run / "checkpoint" / "fedsam.state").read_bytes()
    assert main(["sharpness", str(run), "--labels", "fedavg", "--clients", "1,3"]) == 0
    flags = ["--labels", "fedsam", "--steps", "3", "--samples", "40", "--format", "png"]
    assert main(["sharpness", str(run), *flags]) == 0
    assert (run / "checkpoint" / "fedsam.state").read_bytes() == state
    said = capsys.readouterr().out
    assert "2 clients" in said and "flatness distance" in said
    read = {
        r.label: r for r in sharpness_rows.of_rows(measured_rows.read(run, sharpness_rows.NAME))
    }
    assert list(read) == ["fedavg", "fedsam"] and read["fedsam"].ascent.steps == 3
    assert read["fedavg"] == of_runs.measure(open_run(run, "fedavg"), [1, 3])
    figure = sharpness_figures.layers(list(read.values()))
    top, below, moved = figure.axes
    names = read["fedavg"].tensors()
    assert [text.get_text() for text in top.get_yticklabels()] == names
    for i, one in enumerate(read.values()):
        shown = top.lines[i].get_xdata()
        assert list(shown) == [one.values["global", "train", "layer_sharpness", n] for n in names]
        for ax, data, what in ((below, "own", "layer_sharpness"), (moved, "", "layer_sensitivity")):
            each = [[one.values[c, data, what, n] for c in one.clients] for n in names]
            np.testing.assert_allclose(ax.lines[i].get_xdata(), np.mean(each, 1), rtol=1e-12)
    assert (run / "sharpness.pdf").stat().st_size > 1000
    assert main(["report", str(run), "--format", "png"]) == 0
    assert "one tensor alone is perturbed" in (run / "report" / "report.html").read_text()


def of_tensors(values: list[float], clients: float) -> sharpness_rows.Sharpness:
    """A label whose global model's tensors have these, and one client's all the other."""
    kinds = (("global", "train", "layer_sharpness"), ("3", "own", "layer_sharpness"))
    found = {("3", "", "flatness_distance", ""): clients}
    for i, value in enumerate(values):
        for key in (*kinds, ("3", "", "layer_sensitivity")):
            found[(*key, f"t{i}")] = value if key[0] == "global" else clients
    return sharpness_rows.Sharpness("a", 1, sharpness_rows.Ascent(), found)


def test_numbers_of_an_axis_have_room() -> None:
    figure = sharpness_figures.layers([of_tensors([0.00404, 0.0203, 0.0113], 0.0177)])
    assert not overlapping(figure) and not outside(figure)
    assert all(len(ax.get_xticks()) > 2 for ax in figure.axes)


def test_a_panel_without_a_finite_value_says_so() -> None:
    figure = sharpness_figures.layers([of_tensors([0.1, 0.2], np.nan)])
    said = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    assert said == [[], ["not finite"], ["not finite"]]


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "expected folders of runs, found nothing"),
        (["nowhere"], "nowhere: expected a run folder, found no run"),
        (["RUN", "--labels", "fedgh"], "label: unknown name 'fedgh'; did you mean"),
        (["RUN", "--clients", "12"], "clients: expected ids below 12; got 12"),
        (["RUN", "--clients", "one"], "--clients: expected numbers of clients; got 'one'"),
        (["RUN", "--rho", "0"], "rho: expected a finite number above 0; got 0.0"),
        (["RUN", "--asam-rho", "-1"], "asam_rho: expected a finite number above 0; got -1.0"),
        (["RUN", "--steps", "0"], "steps: expected"),
        (["RUN", "--samples", "0"], "samples: expected at least 1; got 0"),
        (["RUN", "--format", "gif"], "--format: expected png, pdf, svg, eps; got 'gif'"),
    ],
)
def test_mistakes_are_a_line(
    run: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["sharpness", *(str(run) if flag == "RUN" else flag for flag in flags)]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_lines_of_another_command_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sharpness\.csv: expected what `fedfast sharpness`"):
        sharpness_rows.of_rows([{"label": "a", "value": "1"}])
