"""Published rounds and bytes to an accuracy beside ours, by hand; what papers print as X and –."""

import math

import pytest
import yaml
from run_folders import history

from fedfast import config
from fedfast.cli import main
from fedfast.report.published_costs import costs_markdown

PAPER = """\
data: {name: digits}
partition: {name: dirichlet, clients: 6, alpha: 0.5}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, dyn: {name: feddyn}, gamma: {name: fedgamma}, prox: {name: fedprox}}
rounds: 4
participation: 0.5
threads: 1
paper:
  source: Somebody et al., Table 6
  seeds: [3]
  measures:
    - {summary: mean-2, published: {fedavg: [50, 1], dyn: X, gamma: "–", prox: null}}
  costs:
    baseline: fedavg
    summary: mean-2
    published: {fedavg: [4, 1], dyn: [2, 0.5], gamma: "–", prox: null}
"""
RISING = history([0.2, 0.6, 0.4, 0.6])  # its last two: 50 %, reached in round 2 already


def load(tmp_path, text=PAPER):
    path = tmp_path / "table6.yaml"
    path.write_text(text)
    return config.load(path)


def table(tmp_path, rows, text=PAPER):
    found = load(tmp_path, text)
    made = costs_markdown(found, found.paper.costs, rows)
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in made.splitlines()[2:]]
    return made, {row[0]: row[1:] for row in cells if len(row) == 5}


def test_to_our_baselines_accuracy_where_it_is_done(tmp_path):
    rows = {
        "fedavg": [RISING, RISING],
        "dyn": [history([0.2, 0.4, 0.5, 0.1]), history([0.5, 0.4, 0.5, 0.1])],
        "gamma": [history([0.1, 0.6], 2000, 1000), history([0.1, 0.6], 2000, 1000)],
        "prox": [history([0.1, 0.49])],
    }
    text, found = table(tmp_path, rows)
    assert "Rounds to 50 %, our fedavg's final accuracy" in text
    assert found["fedavg"] == ["4", "4", "1", "1"]  # its whole run
    assert found["dyn"] == ["2", "2", "0.5", "0.5"]  # rounds 3 and 1
    assert found["gamma"] == ["–", "2", "–", "1"]  # two rounds of twice the bytes
    assert found["prox"] == ["not at hand", "not in 2", "not at hand", "–"]


def test_to_the_published_accuracy_before(tmp_path):
    rows = {"fedavg": [history([0.2, 0.3])], "dyn": [history([0.2, 0.4, 0.5])], "gamma": []}
    text, found = table(tmp_path, rows)
    assert "50 %, the published final accuracy of fedavg (ours is not done)" in text
    assert found["fedavg"] == ["4", "not in 2", "1", "–"]
    assert found["dyn"] == ["2", "3", "0.5", "0.75"]  # of four rounds' bytes
    assert "gamma" not in found


def test_without_any_accuracy_there_is_no_target(tmp_path):
    text = PAPER.replace("fedavg: [50, 1]", "fedavg: null")
    made, found = table(tmp_path, {"fedavg": [history([0.9])]}, text)
    assert "an accuracy that is not at hand" in made and found["fedavg"][1] == "not in 1"
    assert table(tmp_path, {"dyn": [RISING]})[0] == ""


def test_in_the_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load(tmp_path)
    assert main(["reproduce", "table6.yaml"]) == 0
    text = (tmp_path / "runs/reproduction/report.md").read_text()
    lines = [line.split(" | ") for line in text.splitlines()]
    published = {cells[0].strip("| "): cells[2] for cells in lines if len(cells) == 9}
    assert published["dyn"] == "X (did not converge)" and published["gamma"] == "–"
    assert published["prox"] == "not at hand" and published["fedavg"] == "50 ± 1"
    costs = {cells[0].strip("| "): cells for cells in lines if len(cells) == 5}
    assert costs["fedavg"][1:3] == ["4", "4"] and costs["gamma"][1] == "–"
    accuracy = float(next(c[3] for c in lines if c[0] == "| fedavg" and len(c) == 9).split()[0])
    assert f"Rounds to {accuracy:.4g} %" in text and math.isfinite(accuracy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"published": {"fedavg": [4, 1]}}, "paper: costs.published: expected one of each of"),
        ({"baseline": "nobody"}, "paper: costs.baseline: expected one of dyn, fedavg"),
        ({"summary": "mean-0"}, "expected last, best, sum, mean-N or round-N"),
        ({"published": {"fedavg": 4}}, r"expected \[rounds, bytes\], null, X or –"),
    ],
)
def test_the_section_is_checked(tmp_path, change, said):
    raw = yaml.safe_load(PAPER)
    raw["paper"]["costs"] |= change
    with pytest.raises(config.ConfigError, match=said):
        load(tmp_path, yaml.safe_dump(raw, allow_unicode=True))
