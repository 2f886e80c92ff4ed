"""Python of the pages on measuring models runs as it stands there, and gives what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import fedfast
from fedfast.cli import main

DOCS = Path(__file__).parent.parent / "docs"
CONFIG = """\
data: {name: digits}
partition: {name: dirichlet, clients: 8, alpha: 0.5}
model: {name: cnn, channels: [3, 4], kernel: 3, hidden: [8]}
algorithms: {fedavg: {}, fedsam: {}, fedgloss: {}}
rounds: 1
participation: 0.5
threads: 1
"""


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the pages take as given; two runs of these names below the working directory."""
    top = tmp_path_factory.mktemp("pages")
    (top / "c.yaml").write_text(CONFIG)
    for name in ("quickstart", "mine"):
        assert main(["run", str(top / "c.yaml"), "--out", str(top / "runs" / name)]) == 0
    data = fedfast.data.load("digits")
    clients = fedfast.data.dirichlet(data.train, clients=8, alpha=0.5, seed=0)
    model = fedfast.open_run(top / "runs" / "mine", "fedavg").model()
    sim = fedfast.Simulation(model, clients, "fedsam", rounds=1, participation=0.5)
    sim.run(progress=False)
    x, y = data.test.inputs()[:20], data.test.y[:20]
    given = {"data": data, "clients": clients, "model": model, "sim": sim, "x": x, "y": y}
    return top, given | {"fedfast": fedfast}


@pytest.mark.parametrize("page", ["agreement", "explanations", "hessian", "landscape", "sharpness"])
def test_the_python_of_a_page_runs(names, monkeypatch, page):
    if page == "explanations":
        pytest.importorskip("captum")
    top, given = names
    monkeypatch.chdir(top)
    there = dict(given)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block.replace("grid=51", "grid=3"), page, "exec"), there)
    if page == "hessian":
        assert there["traces"].values.shape == (2,) and there["curves"].values.shape == (2, 1000)
    if page == "landscape":
        lost = torch.nn.functional.cross_entropy(there["model"](there["x"]), there["y"]).item()
        assert there["found"].loss[1, 1].item() == pytest.approx(lost, rel=1e-5)  # its middle
