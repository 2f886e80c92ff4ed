"""What commands that measure finished runs have in common: mistakes are told before the work."""

from __future__ import annotations

import shutil

import pytest
from matplotlib.figure import Figure

from fedfast.cli import main, measuring
from fedfast.landscape import losses
from fedfast.metrics.agreement import of_runs as agreement_runs
from fedfast.metrics.hessian import of_runs as hessian_runs
from fedfast.metrics.hessian import solvers
from fedfast.metrics.sharpness import mean_losses, of_runs
from fedfast.report import landscape_curves
from fedfast.runs import measured_rows
from fedfast.runs.models_of import open_run

CONFIG = """\
data: {name: digits}
partition: {name: dirichlet, clients: 6, alpha: 0.5}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}}
rounds: 1
participation: 0.5
threads: 1
"""
COMMANDS = ("agreement", "explain", "hessian", "landscape", "sharpness")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measuring")
    (folder / "c.yaml").write_text(CONFIG)
    assert main(["run", str(folder / "c.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def idle(monkeypatch):
    """Whatever is measured of a model fails."""

    def measured(*_: object, **__: object) -> None:
        pytest.fail("a model was measured before the mistake was told")

    for owner in (solvers.Hessian, losses.ModelLosses, mean_losses.MeanLosses):
        monkeypatch.setattr(owner, "__init__", measured)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--clients", "0,6"), "clients: expected ids below 6; got 6"),
        (("--clients", f"0,{10**20}"), f"clients: expected ids below 6; got {10**20}"),
        (("--clients", "0,one"), "--clients: expected numbers of clients; got 'one'"),
        (("--format", "png,gif"), "--format: expected png, pdf, svg, eps; got 'gif'"),
        (("--format", ","), "argument --format: expected names divided by commas; got ','"),
        (("--clients", ""), "argument --clients: expected names divided by commas; got ''"),
        (("--labels", ","), "argument --labels: expected names divided by commas; got ','"),
        (("--out", __file__), f"--out: expected a folder; got the file {__file__}"),
    ],
)
def test_mistakes_are_told_before_the_work(run, idle, capsys, command, flags, told):
    before = sorted(run.iterdir())
    assert main([command, str(run), *flags]) == 2
    assert capsys.readouterr().err == f"fedfast: {told}\n"
    assert sorted(run.iterdir()) == before


@pytest.mark.parametrize("command", ["hessian", "landscape", "sharpness"])
def test_a_terminal_is_told_what_is_measured(run, capsys, monkeypatch, command):
    few = {"hessian": ["--density"], "landscape": ["--grid", "2"], "sharpness": []}[command]
    arguments = [command, str(run), "--samples", "20", "--format", "png", *few]
    assert main(arguments) == 0
    assert not capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(arguments) == 0
    told = capsys.readouterr().err
    texts = [text for text in told.split(measuring.CLEAR) if text]
    assert texts and all(text.startswith("fedavg") and "\n" not in text for text in texts)
    assert told.endswith(measuring.CLEAR)  # the line is gone before the table


def test_every_product_with_a_hessian_is_counted(run):
    told: list[str] = []
    wanted = hessian_runs.Wanted(top=1, trace=True, samples=20, steps=3)
    hessian_runs.measure(open_run(run), wanted, told.append)
    traces = [text for text in told if "trace" in text]
    assert len([text for text in told if "eigenvalues" in text]) == 3  # --steps, of one product
    assert len(traces) == 30 and traces[-1].endswith("trace, product 30 with the Hessian")


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    """A run in whose first and next rounds every client diverges."""
    folder = tmp_path_factory.mktemp("diverged")
    (folder / "c.yaml").write_text(CONFIG + "lr: 1.0e+38\n")
    assert main(["run", str(folder / "c.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.parametrize("command", COMMANDS)
def test_clients_that_diverge_are_measured_as_what_they_are(diverged, capsys, command):
    flags = {"landscape": ["--grid", "3"], "explain": ["--images", "0"]}.get(command, [])
    given = ["--clients", "0,1", "--format", "png", *flags]
    assert main([command, str(diverged), *given]) == 0, capsys.readouterr().err
    name = {"explain": "classes"}.get(command, command)
    lines = measured_rows.read(diverged, f"{name}.csv")
    if command in ("hessian", "sharpness"):
        own = [row["value"] for row in lines if row["model"] == "0"]
        assert own and set(own) == {"nan"}
        assert "nan" not in {row["value"] for row in lines if row["model"] == "global"}
    if command == "landscape":
        own = [row for row in lines if row["model"] == "client 0" and not row["mark"]]
        assert {(row["loss"], row["accuracy"]) for row in own} == {("nan", "nan")}
    if command == "explain":  # whatever class such a model predicts
        shares = {row["model"]: row["accuracy"] for row in lines}
        assert shares["client 0"] == "nan" and 0 <= float(shares["global model"]) <= 1
    if command == "agreement":  # they count as clients that stay, as in columns of the history
        assert {row["value"] for row in lines if row["what"] == "norm"} == {"0.0"}


def test_models_that_diverge_are_nan(diverged):
    run = open_run(diverged)
    assert run.local_rows([0, 2]).isnan().all() and run.global_row().isfinite().all()


@pytest.fixture(scope="module")
def pooled(tmp_path_factory):
    """A run that trains one model on the data of all clients, beside one that has clients."""
    folder = tmp_path_factory.mktemp("pooled")
    text = CONFIG.replace("{fedavg: {}}", "{fedavg: {}, upper: {name: centralized}}")
    (folder / "c.yaml").write_text(text)
    assert main(["run", str(folder / "c.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.parametrize("command", [*COMMANDS, "plane"])
def test_clients_of_a_label_that_has_none_are_refused_before_the_work(
    pooled, idle, capsys, command
):
    flags = {"agreement": [], "plane": ["--plane", "global,0"]}.get(command, ["--clients", "0"])
    name = "landscape" if command == "plane" else command
    assert main([name, str(pooled), *flags]) == 2
    why = "has none; it trains one model on the data of all"
    said = f"fedfast: clients: upper of {pooled} {why}; --labels names those to measure\n"
    assert capsys.readouterr().err == said


def test_what_has_no_clients_is_named_in_python(pooled):
    run = open_run(pooled, "upper")
    for ask in (lambda: run.local_rows([0]), lambda: agreement_runs.measure(run)):
        with pytest.raises(ValueError, match="clients: upper has none; it trains one model"):
            ask()


def test_the_model_of_all_data_has_a_sharpness_without_clients(pooled, capsys):
    given = ["--samples", "30", "--format", "png"]
    assert main(["sharpness", str(pooled), *given]) == 0
    said = capsys.readouterr()
    assert (
        said.err == "fedfast: without clients: upper has none; it trains one model on the data "
        "of all\n"
    )
    assert "3 clients" in said.out
    lines = measured_rows.read(pooled, "sharpness.csv")
    assert {row["model"] for row in lines if row["label"] == "upper"} == {"global"}


@pytest.mark.parametrize(
    ("command", "flags", "told"),
    [
        ("landscape", ("--range", "inf"), "--range: expected a finite number > 0; got inf"),
        ("landscape", ("--grid", "1"), "grid: expected 2 or more; got 1"),
        (
            "landscape",
            ("--plane", "a,0"),
            "plane: expected 'global' or numbers of clients; got 'a'",
        ),
        ("landscape", ("--plane", "0,00"), "clients: expected each once; got [0, 0]"),
        (
            "landscape",
            ("--plane", "0,1,2", "--line"),
            "--line: expected no plane beside it; got 0,1,2",
        ),
        ("hessian", ("--top", "9", "--steps", "8"), "top: expected at most 8, the steps; got 9"),
        ("landscape", ("--seed", "-1"), "seed: expected at least 0; got -1"),
        (
            "landscape",
            ("--plane", "0,1", "--clients", "2"),
            "plane: expected no clients beside it; it names its models itself",
        ),
        ("explain", ("--seed", "-1"), "--seed: expected 0 or more; got -1"),
        ("sharpness", ("--asam-rho", "0"), "asam_rho: expected a finite number above 0; got 0.0"),
        ("sharpness", ("--steps", "0"), "steps: expected at least 1; got 0"),
    ],
)
def test_mistakes_of_one_command(run, idle, capsys, command, flags, told):
    assert main([command, str(run), *flags]) == 2
    assert capsys.readouterr().err == f"fedfast: {told}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_cannot_be_written_are_told_before_the_work(run, idle, capsys, command):
    path = run / f"{'classes' if command == 'explain' else command}.csv"
    path.write_text("other,columns\n1,2\n")
    try:
        assert main([command, str(run)]) == 2
        said = f"fedfast: {path}: expected a column 'label'; got ['other', 'columns']\n"
        assert capsys.readouterr().err == said
        assert path.read_text() == "other,columns\n1,2\n"
    finally:
        path.unlink()


def test_labels_that_were_measured_before_an_interruption_are_kept(tmp_path, monkeypatch):
    text = CONFIG.replace("{fedavg: {}}", "{fedavg: {}, fedsam: {}}")
    (tmp_path / "c.yaml").write_text(text)
    assert main(["run", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]) == 0
    measure = of_runs.measure

    def interrupted(run, *given, **options):
        if run.label == "fedsam":
            raise KeyboardInterrupt
        return measure(run, *given, **options)

    monkeypatch.setattr(of_runs, "measure", interrupted)
    assert main(["sharpness", str(tmp_path / "run"), "--clients", "0"]) == 130
    rows = measured_rows.read(tmp_path / "run", "sharpness.csv")
    assert rows and {row["label"] for row in rows} == {"fedavg"}


def test_labels_of_two_runs_are_told_apart_in_every_figure(run, tmp_path, monkeypatch):
    copy = shutil.copytree(run, tmp_path / "again")
    seen = []
    monkeypatch.setattr(
        landscape_curves, "curves", lambda panels: seen.extend(p.label for p in panels) or Figure()
    )
    given = ["--line", "--grid", "2", "--samples", "9", "--out", str(tmp_path)]
    assert main(["landscape", str(run), str(copy), *given]) == 0
    assert seen == ["run fedavg", "again fedavg"]
    assert {row["label"] for row in measured_rows.read(copy, "landscape.csv")} == {"fedavg"}
