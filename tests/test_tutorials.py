"""Every tutorial runs as it stands, needs no download, and says what it reached."""

import os
import runpy
import socket
import sys
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parent.parent / "examples" / "tutorials").glob("*.py"))


def _no_network(*args, **kwargs):
    raise AssertionError("a tutorial opens a connection")


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_shows_its_result(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    monkeypatch.setattr(sys, "path", [*sys.path, str(path.parent)])
    runpy.run_path(str(path), run_name="__main__")  # its own asserts are part of it
    assert any(line.strip() for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_prose_and_code_in_cells(path):
    """The percent format, which Jupytext and editors read: the docs are rendered from it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80
    assert lines[0] == "# %% [markdown]" and lines[1].startswith("# # ")
    prose = False
    for line in lines:
        if line.startswith("# %%"):
            prose = line == "# %% [markdown]"
            assert prose or line == "# %%", line
        elif prose:
            assert not line or line.startswith("#"), f"code in a cell of prose: {line}"


def test_tutorials_leave_nothing_but_what_they_are(tmp_path):
    """Data files or runs beside the scripts would be part of the repository."""
    found = {name for name in os.listdir(TUTORIALS[0].parent) if name != "__pycache__"}
    assert found == {path.name for path in TUTORIALS} | ({"README.md"} & found)
