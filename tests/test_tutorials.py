"""Every tutorial runs as it stands, needs no download, and says what it reached."""

import ast
import os
import re
import runpy
import socket
import sys
from pathlib import Path

import pytest

from fedfast import config

ROOT = Path(__file__).parent.parent
FLS = ROOT / "docs" / "from-fl-simulator.md"
TUTORIALS = sorted((ROOT / "examples" / "tutorials").glob("*.py"))


def _no_network(*args, **kwargs):
    raise AssertionError("a tutorial opens a connection")


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_shows_its_result(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    monkeypatch.setattr(sys, "path", [*sys.path, str(path.parent)])
    scope = runpy.run_path(str(path), run_name="__main__")  # its own asserts are part of it
    said = capsys.readouterr().out
    assert said.strip()
    if path.stem == "first_run":
        _says_what_it_reached(scope["histories"], said)
        assert (tmp_path / "first_run.png").read_bytes()[:4] == b"\x89PNG"


def _says_what_it_reached(histories, said):
    """The accuracies that are printed are those of the two histories, and no failure's."""
    reached = re.findall(r"^(\w+): (\d\d\.\d\d)% at the end", said, re.MULTILINE)
    assert {name: float(text) for name, text in reached} == {
        name: pytest.approx(100 * history.last().accuracy, abs=0.006)
        for name, history in histories.items()
    }
    assert min(float(text) for _, text in reached) > 85
    assert {name for name, _ in reached} == {"fedavg", "fedsam"}


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_prose_and_code_in_cells(path):
    """The percent format, which Jupytext and editors read: the docs are rendered from it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80
    first = lines.index("# %% [markdown]")
    assert lines[first + 1].startswith("# # ")
    head = "\n".join(lines[:first])
    assert not head or isinstance(ast.parse(head).body[0], ast.Expr)  # a docstring
    prose = False
    for line in lines[first:]:
        if line.startswith("# %%"):
            prose = line == "# %% [markdown]"
            assert prose or line == "# %%", line
        elif prose:
            assert not line or line.startswith("#"), f"code in a cell of prose: {line}"


def test_tutorials_leave_nothing_but_what_they_are(tmp_path):
    """Data files or runs beside the scripts would be part of the repository."""
    found = {name for name in os.listdir(TUTORIALS[0].parent) if name != "__pycache__"}
    assert found == {path.name for path in TUTORIALS} | ({"README.md"} & found)


def _fl_simulator():
    path = ROOT / "examples" / "tutorials" / "from_fl_simulator.py"
    code = path.read_text(encoding="utf-8").split("# FedAvg and FedSpeed on small")[0]
    scope = {}
    exec(compile(code, str(path), "exec"), scope)
    return scope


def test_the_page_on_fl_simulator_has_the_defaults_of_its_tutorial():
    text = FLS.read_text(encoding="utf-8")
    numbers = _fl_simulator()["NUMBERS"]
    for names, default in re.findall(r"^\| (`--[^|]*) \| ([^|]*) \|", text, re.MULTILINE):
        name = re.findall(r"--([\w-]+)", names)[-1]
        values = re.findall(r"[\d.]+$", default)
        if name in numbers and values:
            assert float(values[0]) == numbers[name], name


def test_the_page_on_fl_simulator_and_its_tutorial_say_the_same(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", FLS.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "fls.yaml").write_text(text)
    found = config.load(tmp_path / "fls.yaml")
    command = "--non-iid --split-coef 0.6 --active-ratio 0.1 --total-client 100 --method FedSpeed"
    partition, settings, algorithm = _fl_simulator()["ours"](command)
    assert {"name": found.partition.name, **found.partition_options()} == {
        **partition, "sigma": 0.0, "starve": False
    }  # fmt: skip
    assert {name: getattr(found, name) for name in settings} == settings
    options = found.algorithms["fedspeed"].options()
    assert (options["rho"], options["lam"], options["variant"]) == (
        algorithm.rho, algorithm.lam, algorithm.variant
    )  # fmt: skip
