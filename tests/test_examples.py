"""What the documents show runs: docstring examples and the README's Python."""

import doctest
import inspect
import re
import runpy
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import fedfast

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["fedfast", "fedfast._messages"])
def test_docstring_examples(name):
    found = doctest.testmod(import_module(name))
    assert found.attempted and not found.failed


def test_readme_python_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    simulation, server_loop = blocks
    assert len([line for line in simulation.splitlines() if line]) <= 15
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(simulation.replace("rounds=50", "rounds=2"), scope)
    assert len(scope["history"]) == 2
    assert (tmp_path / "history.csv").read_text().count("\n") == 3
    before = {name: t.clone() for name, t in scope["model"].state_dict().items()}
    exec(server_loop, scope)
    scope["model"].load_state_dict(scope["state"])
    loss = torch.nn.functional.cross_entropy
    test, model = scope["data"].test, scope["model"]
    after = loss(model(test.inputs()), test.y)
    model.load_state_dict(before)
    assert after < loss(model(test.inputs()), test.y)


def test_a_split_s_difficulty_is_the_majority_s_where_nothing_is_known():
    script = runpy.run_path(str(ROOT / "examples" / "split_difficulty.py"))
    owned = [torch.tensor(y) for y in ([0, 0, 0, 1], [2, 2, 0, 1, 1, 1, 1, 1])]
    clients = fedfast.FederatedData.from_arrays([torch.zeros(len(y), 2) for y in owned], owned)
    expected = 100 * np.mean([3 / 4, 5 / 8])
    assert script["difficulty"](clients, torch.zeros(12, 3)) == pytest.approx(expected)
    known = torch.eye(3)[clients.y] * 9
    assert script["difficulty"](clients, known) == 100


def test_a_server_loop_of_ones_own_takes_a_few_lines_and_ends_where_the_slow_one_does(capsys):
    script = runpy.run_path(str(ROOT / "examples" / "own_server_loop.py"))
    lines = inspect.getsource(script["after"]).splitlines()[2:]
    assert len(lines) <= 15
    script["main"].__globals__.update(ROUNDS=3, SELECTED=6)
    assert script["main"]() < 1e-5
    assert re.search(r"before +\d.*after +\d", capsys.readouterr().out, re.DOTALL)


def test_a_split_s_difficulty_from_the_command_line(monkeypatch, capsys):
    script = runpy.run_path(str(ROOT / "examples" / "split_difficulty.py"))
    data = fedfast.data.load("digits")
    model = fedfast.models.build("mlp", input_shape=(1, 8, 8), classes=10)
    found = script["logits"](data.train, model, steps=200)
    # In the order of the samples:
    assert float((found.argmax(dim=1) == data.train.y).float().mean()) > 0.8
    found = {}
    for alpha in ("0.15", "100"):
        config = str(ROOT / "examples" / "quickstart.yaml")
        monkeypatch.setattr("sys.argv", ["", config, "--draws", "3", "--partition.alpha", alpha])
        script["main"]()
        own, others, spread = re.findall(r"\d+\.\d+", capsys.readouterr().out)
        found[alpha] = float(own), float(others), float(spread)
    # Few classes leave little to guess, and much to the draw; the model is the same.
    assert found["0.15"][:2] > found["100"][:2] and found["0.15"][2] > found["100"][2]
