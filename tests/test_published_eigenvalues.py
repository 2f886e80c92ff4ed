"""Published eigenvalues beside those that `fedfast hessian` has left in rows' folders."""

import numpy as np
import pytest

from fedfast import config
from fedfast.cli import main
from fedfast.metrics.hessian.spectrum import NAME, of_rows
from fedfast.runs import measured_rows

PAPER = """\
data: {name: digits}
partition: {name: dirichlet, clients: 6, alpha: 0.5}
model: {name: mlp, hidden: [4]}
algorithms: {fedavg: {}, dyn: {name: feddyn}}
rounds: 4
participation: 0.5
threads: 1
paper:
  source: Somebody et al., Table 1
  seeds: [3]
  measures: [{published: {fedavg: 50, dyn: null}}]
  eigenvalues:
    global_model: {fedavg: [2.5, 0.1], dyn: X}
    clients_own: {fedavg: [1, 3.5, 6]}
"""


def report(tmp_path):
    text = (tmp_path / "out" / "report.md").read_text()
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]
    return {tuple(c[:3]): c[3:] for c in lines if len(c) == 5}


def test_the_report_sets_ours_beside_the_published(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table1.yaml").write_text(PAPER)
    argv = ["reproduce", "table1.yaml", "--rounds", "2", "--out", "out"]
    assert main(argv) == 0
    found = report(tmp_path)
    assert found["fedavg", "global", "train"] == ["2.5 ± 0.1", "not measured"]
    assert found["fedavg", "clients", "own"] == ["3.5 (1 … 6)", "not measured"]
    assert found["dyn", "global", "train"] == ["X", "not measured"]
    assert ("fedavg", "clients", "train") not in found
    folder = next(tmp_path.glob("out/**/fedavg/seed-3"))
    assert main(["hessian", str(folder), "--clients", "0,1", "--format", "png"]) == 0
    assert main([*argv, "--dry"]) == 0
    found, ours = report(tmp_path), of_rows(measured_rows.read(folder, NAME))
    own = [one.values[0] for one in ours if one.data == "own"]
    (whole,) = [one.values[0] for one in ours if one.model == "global"]
    assert found["fedavg", "global", "train"] == ["2.5 ± 0.1", f"{whole:.4g}"]
    shown = f"{np.mean(own):.4g} ({min(own):.4g} … {max(own):.4g})"
    assert found["fedavg", "clients", "own"] == ["3.5 (1 … 6)", shown]
    assert found["fedavg", "clients", "train"][0] == "not at hand"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "dyn: X}",
            "nobody: X}",
            "eigenvalues.global_model: expected some of fedavg, dyn, found n",
        ),
        ("[1, 3.5, 6]", "[]", "paper.eigenvalues.clients_own.fedavg: expected a number, a list of"),
        ("[1, 3.5, 6]", "[1, x]", "expected a number, a list of numbers, null, X or –"),
    ],
)
def test_wrong_values_are_refused(tmp_path, old, new, says):
    (tmp_path / "c.yaml").write_text(PAPER.replace(old, new))
    with pytest.raises(ValueError, match="c.yaml") as error:
        config.load(tmp_path / "c.yaml")
    assert says in str(error.value)
