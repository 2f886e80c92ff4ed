"""What the documents show runs: docstring examples and the README's Python."""

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["fedfast", "fedfast._names"])
def test_docstring_examples(name):
    found = doctest.testmod(import_module(name))
    assert found.attempted and not found.failed


def test_readme_python_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 15
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(code.replace("rounds=50", "rounds=2"), scope)
    assert len(scope["history"]) == 2
    assert (tmp_path / "history.csv").read_text().count("\n") == 3
