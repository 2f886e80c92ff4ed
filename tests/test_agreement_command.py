"""`fedfast agreement`: models of a run's next round against NumPy, files, figures, mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recorded_rounds as rr

from fedfast.cli import main
from fedfast.metrics.agreement import agreement_rows, of_runs
from fedfast.report import agreement_figures
from fedfast.runs import measured_rows
from fedfast.runs.models_of import open_run

CONFIG = """\
data: {name: digits}
partition: {name: dirichlet, clients: 12, alpha: 0.2}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, fedgh: {granularity: tensor}, fedgloss: {}, fednsam: {}}
rounds: 3
participation: 0.5
batch_size: 20
lr: 0.1
threads: 1
metrics: [cosine, conflicts, drift]
"""
LABELS = ["fedavg", "fedgh", "fedgloss", "fednsam"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of three rounds, and the same of four."""
    folder = tmp_path_factory.mktemp("agreement")
    (folder / "small.yaml").write_text(CONFIG)
    for name, rounds in (("three", 3), ("four", 4)):
        flags = ["--out", str(folder / name), "--rounds", str(rounds)]
        assert main(["run", str(folder / "small.yaml"), *flags]) == 0
    return folder


@pytest.mark.parametrize("label", LABELS)
def test_it_is_what_the_next_round_measures(runs: Path, label: str) -> None:
    """The columns of round 4, of which a run of three rounds is the beginning."""
    found = of_runs.measure(open_run(runs / "three", label))
    frame = pd.read_csv(runs / "four" / "history.csv").set_index(["algorithm", "round"])
    row, expected = frame.loc[(label, 4)], found.summary
    names = ["cosine_pairs", "conflicts", "drift_global", "drift_mean"]
    if label == "fedgh":  # its mean is harmonized, of which the cosine there is
        names += ["conflicts_after"]
        expected["conflicts_after"] = expected["conflicts_after_tensor"]
        tensors = [s for name, s in found.conflicts["conflicts_after_tensor"].items() if name]
        assert np.mean(tensors) == pytest.approx(row["conflicts_tensors_after"])
    else:
        names += ["cosine_global"]
    tensors = [share for name, share in found.conflicts["conflicts"].items() if name]
    assert np.mean(tensors) == pytest.approx(row["conflicts_tensors"])
    assert found.round == 3 and len(found.ids) == row["clients"]
    for name in names:
        assert expected[name] == pytest.approx(row[name], rel=2e-5, abs=1e-6), name


def test_any_clients_against_numpy(runs: Path) -> None:
    run, ids = open_run(runs / "three", "fedavg"), [7, 2, 11]
    found = of_runs.measure(run, ids)
    assert found.ids == (2, 7, 11)
    trained = run.layout.trained
    start = run.global_row().double().numpy()[:trained]
    updates = run.local_rows(found.ids).double().numpy()[:, :trained] - start
    sizes = run.data.sizes[list(found.ids)]
    mean = sizes / sizes.sum() @ updates
    for i, u in enumerate(updates):
        assert found.norms[i] == pytest.approx(np.linalg.norm(u), rel=1e-5)
        assert found.along[i] == pytest.approx(rr.cosine(u, mean), abs=1e-5)
        for j, other in enumerate(updates):
            assert found.cosines[i, j] == pytest.approx(rr.cosine(u, other), abs=1e-5)
    spans = run.simulation._engine.visible.segments.spans
    round_ = rr.Round(updates, sizes / sizes.sum(), list(found.ids), list(spans))
    for granularity in ("model", "tensor"):
        changed = rr.harmonized(round_, granularity)
        expected = [rr.conflict_share(changed[:, a:b]) for a, b in spans]
        own = found.conflicts[f"conflicts_after_{granularity}"]
        assert [v for k, v in own.items() if k] == pytest.approx(expected)
        assert own[""] == pytest.approx(rr.conflict_share(changed))


def test_files_hold_what_was_measured_and_the_run_is_left_alone(runs: Path) -> None:
    folder, history = runs / "three", (runs / "three" / "history.csv").read_bytes()
    state = (folder / "checkpoint" / "fedgh.state").read_bytes()
    assert main(["agreement", str(folder), "--labels", "fedgh", "--format", "png"]) == 0
    assert main(["agreement", str(folder), "--labels", "fedavg", "--clients", "1,3,5"]) == 0
    assert (folder / "history.csv").read_bytes() == history
    assert (folder / "checkpoint" / "fedgh.state").read_bytes() == state
    rows = measured_rows.read(folder, agreement_rows.NAME)
    read = {one.label: one for one in agreement_rows.of_rows(rows)}
    assert list(read) == ["fedgh", "fedavg"]
    made = of_runs.measure(open_run(folder, "fedgh"))
    np.testing.assert_array_equal(read["fedgh"].cosines, _unit_diagonal(made.cosines))
    np.testing.assert_array_equal(read["fedgh"].along, made.along)
    assert read["fedgh"].conflicts == made.conflicts
    assert read["fedgh"].summary == pytest.approx(made.summary)
    assert read["fedavg"].ids == (1, 3, 5)
    assert (folder / "agreement.pdf").stat().st_size > 1000
    assert main(["report", str(folder), "--format", "png"]) == 0
    page = (folder / "report" / "report.html").read_text()
    assert "Cosines between the updates" in page and "agreement-tensors-2.png" in page


def _unit_diagonal(table: np.ndarray) -> np.ndarray:
    return table * (1 - np.eye(len(table))) + np.eye(len(table))


def test_no_bit_depends_on_the_chunk(runs: Path) -> None:
    whole = of_runs.measure(open_run(runs / "three", "fedgloss"), range(6))
    run = open_run(runs / "three", "fedgloss")
    small = run.config.model_copy(update={"chunk": 1, "threads": 2})
    (runs / "three" / "config.yaml").write_text(
        (runs / "three" / "config.yaml").read_text().replace("chunk: null", "chunk: 1")
    )
    assert small.chunk == open_run(runs / "three", "fedgloss").config.chunk == 1
    alone = of_runs.measure(open_run(runs / "three", "fedgloss"), range(6))
    assert alone.rows() == whole.rows()


def test_figures_show_what_was_measured(runs: Path) -> None:
    found = [of_runs.measure(open_run(runs / "three", label)) for label in LABELS[:2]]
    figure = agreement_figures.matrices(found)
    for ax, one in zip(figure.axes, found, strict=False):
        shown = ax.images[0].get_array()
        clients = len(one.ids)
        np.testing.assert_array_equal(shown[:, :clients].data, one.cosines)
        np.testing.assert_array_equal(shown[:, -1].data, one.along)
        assert [t.get_text() for t in ax.get_yticklabels()] == list(map(str, one.ids))
    (ax,) = agreement_figures.tensors(found[0]).axes
    for line, of in zip(ax.lines, found[0].conflicts.values(), strict=True):
        assert line.get_xdata() == pytest.approx([100 * v for v in of.values()])


def test_many_tensors_and_clients_can_be_read() -> None:
    """Of 60 tensors the 28 with the most conflicts; of 40 clients every fourth number."""
    names = ["", *(f"layer{i}.weight" for i in range(60))]
    shares = {name: i / 100 for i, name in enumerate(names)}
    one = of_runs.Agreement(
        label="many",
        round=1,
        ids=tuple(range(40)),
        cosines=np.eye(40),
        along=np.zeros(40),
        norms=np.ones(40),
        conflicts=dict.fromkeys(of_runs.KINDS, shares),
        drift_global=1.0,
        drift_mean=1.0,
    )
    (ax,) = agreement_figures.tensors(one).axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["whole model", *names[33:]]
    ax, *_ = agreement_figures.matrices([one, replace(one, label="other")]).axes
    assert len(ax.get_yticks()) == 10


def test_clients_that_do_not_move_are_told() -> None:
    names = ["", "a", "b"]
    one = of_runs.Agreement(
        label="still",
        round=1,
        ids=(0, 1, 2),
        cosines=np.full((3, 3), np.nan),
        along=np.full(3, np.nan),
        norms=np.zeros(3),
        conflicts=dict.fromkeys(of_runs.KINDS, dict.fromkeys(names, 0.0)),
        drift_global=0.0,
        drift_mean=0.0,
    )
    ax, *_ = agreement_figures.matrices([one]).axes
    assert [text.get_text() for text in ax.texts] == ["no client moves"]
    (ax,) = agreement_figures.tensors(one).axes
    assert ax.get_xlim() == (0, 1)  # not a part of a percent


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "expected folders of runs, found nothing"),
        (["nowhere"], "nowhere: expected a run folder, found no run"),
        (
            ["RUN", "--labels", "fedsam"],
            "label: unknown name 'fedsam'; did you mean 'fednsam'? known: fedavg,",
        ),
        (["RUN", "--clients", "1"], "clients: expected at least two; got [1]"),
        (["RUN", "--clients", "1,1"], "clients: expected each once"),
        (["RUN", "--clients", "1,12"], "clients: expected ids below 12; got 12"),
        (["RUN", "--clients", "one"], "--clients: expected numbers of clients; got 'one'"),
        (["RUN", "--format", "gif"], "--format: expected png, pdf, svg, eps; got 'gif'"),
    ],
)
def test_mistakes_are_a_line(
    runs: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    given = [str(runs / "four") if flag == "RUN" else flag for flag in flags]
    assert main(["agreement", *given]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_lines_of_another_command_are_refused() -> None:
    with pytest.raises(ValueError, match=r"agreement\.csv: expected what `fedfast agreement`"):
        agreement_rows.of_rows([{"label": "a", "value": "1"}])
