"""`fedfast landscape`: from a run folder to rows, figures and a page."""

from __future__ import annotations

import csv
import re
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedfast.cli import main
from fedfast.landscape.panels import NAME, of_rows
from fedfast.report.landscape_curves import curves
from fedfast.report.landscape_figures import contours
from fedfast.runs import measured_rows
from fedfast.runs.models_of import open_run

CONFIG = """\
data: {name: digits}
partition: {name: dirichlet, clients: 6, alpha: 0.5}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, fedsam: {rho: 0.1}}
rounds: 2
participation: 0.5
local_epochs: 1
threads: 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("landscape")
    (folder / "c.yaml").write_text(CONFIG)
    assert main(["run", str(folder / "c.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def loss_of(run, row, samples) -> float:
    run.layout.write(row, run.module)
    with torch.no_grad():
        return float(F.cross_entropy(run.module.eval()(samples.inputs()), samples.y))


def test_local_models_make_the_next_round(run):
    """Their mean, weighted by samples, is the global model that the run itself would have next."""
    found = open_run(run, "fedavg")
    schedule = found.simulation._components.design.schedule
    ids = schedule.round(2).clients.tolist()
    rows, alone = found.local_rows(ids), found.local_rows(ids[1:2])
    assert torch.equal(rows[1], alone[0])
    sizes = torch.tensor([len(found.data.client(i)) for i in ids], dtype=torch.float64)
    mean = (sizes / sizes.sum()) @ rows.double()
    before = found.global_row()
    next(iter(found.simulation))
    assert not torch.equal(before, found.global_row())
    assert (found.global_row() - mean).abs().max() < 1e-6


def test_rows_hold_what_the_models_lose(run, capsys):
    argv = ["landscape", str(run), "--labels", "fedavg", "--grid", "5", "--plane", "global,0,3"]
    assert main([*argv, "--format", "png"]) == 0
    (panel,) = (p for p in of_rows(measured_rows.read(run, NAME)) if p.slice.startswith("plane"))
    found = open_run(run, "fedavg")
    assert list(panel.marks) == ["global", "client 0", "client 3"]
    rows = dict(zip(panel.marks, [found.global_row(), *found.local_rows([0, 3])], strict=True))
    # The plane as those three models span it, and one point of the grid on it.
    (_, _), (across, _), (along, up) = panel.marks.values()
    g, one, two = rows.values()
    u = (one - g).double() / across
    v = ((two - g).double() - along * u) / up
    for i, j in ((0, 0), (1, 3), (4, 2)):
        row = g.double() + panel.axes[0][i] * u + panel.axes[1][j] * v
        loss = loss_of(found, row.float(), found.test)
        assert panel.loss[i, j] == pytest.approx(loss, rel=1e-5)
    assert (run / "landscape-plane-global-0-3.png").stat().st_size > 5000


def test_a_label_measured_anew_takes_the_place_of_its_rows(run):
    for argv in (["--grid", "3"], ["--grid", "4", "--labels", "fedsam"]):
        assert main(["landscape", str(run), "--line", *argv, "--format", "png"]) == 0
    panels = [p for p in of_rows(measured_rows.read(run, NAME)) if p.slice == "random line"]
    assert [(panel.label, len(panel.loss)) for panel in panels] == [("fedavg", 3), ("fedsam", 4)]


SLICES = {  # flags -> the slice, the stem of its figures
    "": ("random plane", "landscape"),
    "--seed 1": ("random plane, seed 1", "landscape-plane-seed-1"),
    "--line": ("random line", "landscape-line"),
    "--plane global,0,3": ("plane global,0,3", "landscape-plane-global-0-3"),
    "--plane 0,3": ("line 0,3", "landscape-line-0-3"),
}


def test_slices_of_a_model_live_side_by_side(run, tmp_path):
    """Whatever else was measured before, its rows and figures stay as they were."""
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("landscape*"))
    argv = ["landscape", str(copy), "--grid", "3", "--labels", "fedavg", "--format", "png"]
    written: dict[str, bytes] = {}
    for flags in SLICES:
        before = (copy / NAME).read_text() if written else ""
        assert main([*argv, *flags.split()]) == 0
        assert (copy / NAME).read_text().startswith(before)
        assert {p.name: p.read_bytes() for p in copy.glob("*.png")}.items() >= written.items()
        written = {p.name: p.read_bytes() for p in copy.glob("landscape*.png")}
    panels = of_rows(measured_rows.read(copy, NAME))
    assert {panel.slice: panel.stem for panel in panels} == dict(SLICES.values())
    assert main([*argv, "--clients", "1"]) == 0  # its global panel on the test set is measured anew
    found = [p for p in of_rows(measured_rows.read(copy, NAME)) if p.slice == "random plane"]
    assert len(found) == len({(p.model, p.data) for p in found}) == 4
    assert main(["report", str(copy), "--out", str(tmp_path / "r"), "--format", "png"]) == 0
    assert {p.name for p in (tmp_path / "r").glob("landscape*")} == set(written)


def test_curves_say_where_the_models_of_a_line_lie(run):
    argv = ["landscape", str(run), "--grid", "3", "--plane", "global,3", "--format", "png"]
    assert main(argv) == 0
    panels = [p for p in of_rows(measured_rows.read(run, NAME)) if p.slice == "line global,3"]
    upper, _ = curves(panels).axes
    assert {t.get_text(): t.xy[0] for t in upper.texts} == {"global": 0.0, "client 3": 1.0}


def test_clients_are_shown_on_their_own_samples_and_on_all(run, tmp_path):
    argv = ["landscape", str(run), "--labels", "fedavg", "--clients", "1", "--grid", "3"]
    assert main([*argv, "--out", str(tmp_path), "--samples", "2000"]) == 0
    found, panels = open_run(run, "fedavg"), of_rows(measured_rows.read(run, NAME))
    panels = [p for p in panels if (p.label, p.slice) == ("fedavg", "random plane")]
    names = [(panel.model, panel.data) for panel in panels]
    assert names[2:] == [("client 1", "own samples"), ("client 1", "test set")]
    (row,) = found.local_rows([1])
    for panel, samples in zip(panels[2:], (found.data.client(1), found.test), strict=True):
        assert panel.loss[1, 1] == pytest.approx(loss_of(found, row, samples), rel=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"landscape{name}.{kind}" for name in ("-curves", "") for kind in ("pdf", "png")
    ]


def test_panels_come_back_from_the_file_as_they_were(run):
    assert main(["landscape", str(run), "--grid", "3", "--format", "png"]) == 0
    with (run / NAME).open() as file:
        rows = list(csv.DictReader(file))
    assert [r for panel in of_rows(rows) for r in _written(panel)] == rows


def _written(panel):
    return [{key: str(value) for key, value in row.items()} for row in panel.rows()]


def test_levels_are_shared_and_points_that_are_not_finite_stay_white(run):
    assert main(["landscape", str(run), "--grid", "4", "--format", "png"]) == 0
    panels = [p for p in of_rows(measured_rows.read(run, NAME)) if p.slice == "random plane"][:2]
    panels[0].loss[0, 0] = np.inf
    shown = contours(panels).axes[:2]
    assert not any(ax.texts for ax in shown)
    gone = replace(panels[1], loss=np.full_like(panels[1].loss, np.nan))
    one, other = contours([panels[0], gone]).axes[:2]
    assert not one.texts and [text.get_text() for text in other.texts] == ["not finite"]
    limits = {ax.collections[0].get_clim() for ax in shown}
    finite = np.concatenate([panel.loss[np.isfinite(panel.loss)] for panel in panels])
    assert limits == {(finite.min(), finite.max())}
    upper, lower = curves(panels).axes
    for panel, line, below in zip(panels, upper.lines, lower.lines, strict=True):
        assert np.array_equal(line.get_ydata(), panel.middle[0])
        assert np.array_equal(below.get_ydata(), 100 * panel.middle[1])


def test_the_page_asks_for_nothing(run, tmp_path):
    pytest.importorskip("plotly")
    argv = ["landscape", str(run), "--grid", "3", "--html", "--out", str(tmp_path)]
    assert main([*argv, "--format", "png"]) == 0
    page = (tmp_path / "landscape.html").read_text()
    assert "Plotly.newPlot" in page and page.count("<h2>") == 2
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    scales = re.findall(r'"zaxis":{"title":{"text":"loss \(nats\)"},"range":\[([^\]]+)\]', page)
    assert len(scales) == 2 and scales[0] == scales[1]
    assert page.count('"text":"global model"') == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected folders of runs"),
        (["RUN", "--plane", "global"], "plane: expected two or three models; got global"),
        (["RUN", "--plane", "global,x"], "plane: expected 'global' or numbers of clients; got 'x'"),
        (["RUN", "--plane", "0,0"], "clients: expected each once"),
        (["RUN", "--clients", "9"], "clients: expected ids below 6; got 9"),
        (["RUN", "--clients", "a"], "--clients: expected numbers of clients; got 'a'"),
        (["RUN", "--labels", "none"], "none"),
        (["RUN", "--grid", "1"], "grid: expected 2 or more; got 1"),
        (["RUN", "--range", "0"], "--range: expected a finite number > 0; got 0.0"),
        (["RUN", "--samples", "0"], "samples: expected at least 1; got 0"),
        (["RUN", "--plane", "0,1", "--html"], "--html: expected planes; got a line"),
        (["RUN", "--line", "--html"], "--html: expected planes; got a line"),
        (["nowhere"], "nowhere: expected a run folder, found no run"),
    ],
)
def test_what_is_wrong_is_said(run, argv, message, capsys):
    few = [] if "--samples" in argv else ["--samples", "5"]
    assert main(["landscape", *(str(run) if a == "RUN" else a for a in argv), *few]) == 2
    assert message in capsys.readouterr().err


def test_the_report_has_what_was_measured(run, tmp_path):
    assert main(["landscape", str(run), "--grid", "3", "--format", "png"]) == 0
    assert main(["report", str(run), "--out", str(tmp_path), "--format", "png"]) == 0
    assert {"landscape.png", "landscape-curves.png"} <= {path.name for path in tmp_path.iterdir()}
    assert '<h2 id="landscapes">' in (tmp_path / "report.html").read_text()


def test_the_state_before_the_newest_is_opened_where_that_is_gone(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    state = copy / "checkpoint" / "fedavg.state"
    state.rename(state.with_name(f"{state.name}.previous"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = open_run(copy, "fedavg")
    assert torch.equal(found.global_row(), open_run(run, "fedavg").global_row())
