"""What commands that measure finished runs have in common: mistakes are told before the work."""

from __future__ import annotations

import pytest

from fedfast.cli import main
from fedfast.landscape import losses
from fedfast.metrics.hessian import solvers
from fedfast.metrics.sharpness import mean_losses

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
