"""The diffs of CONTRIBUTING.md apply to this tree, touch as many files as promised, and work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fedfast.kernels
import pytest

import fedfast

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## An? ([a-z]+).*?: (\d+) files?\n(.*?)(?=^## )", TEXT, re.M | re.S)
DIFFS = {
    kind: "".join(re.findall(r"^```diff\n(.*?)^```$", text, re.M | re.S))
    for kind, _, text in SECTIONS
}
LIMITS = {"algorithm": 2, "partition": 2, "callback": 1, "metric": 3, "layer": 8}
BY_NAME = '''
"""What the diffs add is found by its name in a config."""

import json
from fedfast.cli import main

CONFIG = """
data: {name: digits}
partition: {name: quantity, clients: 4, beta: 5}
model: {name: mclr}
algorithms: {fednova: {}}
metric: top3
callbacks: [jsonl]
rounds: 1
participation: 1.0
"""


def test_a_run(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text(CONFIG)
    assert main(["run", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = json.loads(next(line for line in lines if line.startswith("{")))
    assert row["algorithm"] == "fednova" and row["round"] == 1 and row["accuracy"] > 0.3
'''


def files(diff: str) -> list[str]:
    """The files that a diff changes or makes."""
    return re.findall(r"^\+\+\+ b/(.*)$", diff, re.M)


@pytest.mark.parametrize("kind", LIMITS)
def test_no_more_files_than_promised(kind):
    promised = {name: int(count) for name, count, _ in SECTIONS}
    assert len(files(DIFFS[kind])) == promised[kind] <= LIMITS[kind]


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A copy of the tree with all diffs applied."""
    folder = tmp_path_factory.mktemp("tree")
    leave = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(Path(fedfast.__file__).parent, folder / "fedfast", ignore=leave)
    shutil.copytree(Path(fedfast.kernels.__file__).parent, folder / "kernels")
    (folder / "fedfast" / "kernels").symlink_to(folder / "kernels", target_is_directory=True)
    (folder / "tests").mkdir()
    for name in ("conftest.py", "federation.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    for diff in DIFFS.values():
        subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=folder, check=True)
    return folder


def test_their_own_tests_pass_and_they_are_found_by_name(changed):
    (changed / "tests" / "test_by_name.py").write_text(BY_NAME)
    paths = os.pathsep.join([str(changed), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=changed, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    tests = [name for diff in DIFFS.values() for name in files(diff) if "/test_" in name]
    assert all((changed / name).exists() for name in tests) and " passed" in found.stdout
