"""What commands that measure finished runs have in common: mistakes are told before the work."""

from __future__ import annotations

import pytest

from fedfast.cli import main, measuring
from fedfast.landscape import losses
from fedfast.metrics.hessian import of_runs, solvers
from fedfast.metrics.sharpness import mean_losses
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
        (("--clients", "0,one"), "--clients: expected numbers of clients; got 'one'"),
        (("--format", "png,gif"), "--format: expected png, pdf, svg, eps; got 'gif'"),
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
    wanted = of_runs.Wanted(top=1, trace=True, samples=20, steps=3)
    of_runs.measure(open_run(run), wanted, told.append)
    traces = [text for text in told if "trace" in text]
    assert len([text for text in told if "eigenvalues" in text]) == 3  # --steps, of one product
    assert len(traces) == 30 and traces[-1].endswith("trace, product 30 with the Hessian")
