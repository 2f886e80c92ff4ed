"""The diffs of CONTRIBUTING.md apply to this tree, touch as many files as promised, and work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import fedfast.kernels
import pytest

import fedfast

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## An? ([a-z]+).*?: (\d+) files?[^\n]*\n(.*?)(?=^## )", TEXT, re.M | re.S)
DIFFS = {
    kind: "".join(re.findall(r"^```diff\n(.*?)^```$", text, re.M | re.S))
    for kind, _, text in SECTIONS
}
LIMITS = {"algorithm": 2, "partition": 2, "callback": 1, "metric": 3, "layer": 8, "operation": 6}
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


BY_BACKEND = '''
"""The operation that the diff adds, on the backends that need no compiler."""

import pytest
import torch
from fedfast import kernels


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_an_operation(backend):
    x, limit = torch.randn(3, 33), torch.tensor([0.5, 1.0, 2.0])
    x[0, 0] = torch.nan
    expected = torch.stack([row.clamp(-a, a) for row, a in zip(x, limit.tolist())])
    found = kernels.clamp(x, limit, backend=backend)
    assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7))
    with pytest.raises(ValueError, match="out"):
        kernels.clamp(x, limit, out=x[:2], backend=backend)
'''


# Tests of the tree that would fail where the sections left out a step, and what they import.
EXISTING = (
    "tests/test_algorithm_tables.py",
    "tests/test_config.py::test_every_partition_can_be_written_and_takes_what_its_function_takes",
)
SET_UP = "tests/conftest.py", "tests/interpreter.py", "tests/kernel_accesses.py"
SET_UP += "tests/program_order.py", "tests/value_origins.py"
HELPERS = (*SET_UP, "tests/federation.py", "tests/test_oracles.py", "tests/oracles")
COPIED = (*HELPERS, "examples", *(test.partition("::")[0] for test in EXISTING))


def files(diff: str) -> list[str]:
    """The files that a diff changes or makes."""
    return re.findall(r"^\+\+\+ b/(.*)$", diff, re.M)


@pytest.mark.parametrize("kind", LIMITS)
def test_no_more_files_than_promised(kind):
    promised = {name: int(count) for name, count, _ in SECTIONS}
    assert len(files(DIFFS[kind])) == promised[kind] <= LIMITS[kind]


def changed(folder: Path, kinds: set[str], *parts: str) -> Path:
    """A copy of the package, and of `parts` of the tree, with these diffs applied."""
    leave = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(Path(fedfast.__file__).parent, folder / "fedfast", ignore=leave)
    shutil.copytree(Path(fedfast.kernels.__file__).parent, folder / "kernels")
    (folder / "fedfast" / "kernels").symlink_to(folder / "kernels", target_is_directory=True)
    for part in parts:
        (folder / part).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    for kind in kinds:
        subprocess.run(["git", "apply", "-"], input=DIFFS[kind], text=True, cwd=folder, check=True)
    return folder


def python(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """`python -m` in the copy."""
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip


def passes(folder: Path, name: str, content: str, tests: Sequence[str] = ("tests",)) -> None:
    """These tests in the copy pass, with one more file."""
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests" / name).write_text(content)
    found = python(folder, "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert found.returncode == 0 and " passed" in found.stdout, found.stdout + found.stderr


def test_their_own_tests_pass_and_they_are_found_by_name(tmp_path):
    kinds = DIFFS.keys() - {"operation"}
    folder = changed(tmp_path, kinds, *COPIED)
    tests = [name for kind in kinds for name in files(DIFFS[kind]) if "/test_" in name]
    assert tests and all((folder / name).exists() for name in tests)
    (folder / "docs").mkdir()  # as `make docs` does
    written = python(folder, "fedfast.report.algorithm_tables").stdout
    (folder / "docs" / "algorithms.md").write_text(written, encoding="utf-8")
    passes(folder, "test_by_name.py", BY_NAME, ["tests/test_by_name.py", *tests, *EXISTING])


def test_an_operation(tmp_path):
    folder = changed(tmp_path, {"operation"}, "csrc", *SET_UP)
    # The compiled module of this tree lacks the operation, which an import would refuse.
    (folder / "fedfast" / "_fedfast.py").write_text("raise ImportError('not compiled here')")
    for module in (folder / "fedfast").glob("_fedfast.*.so"):
        module.unlink()
    passes(folder, "test_by_backend.py", BY_BACKEND)
    (source,) = (name for name in files(DIFFS["operation"]) if name.startswith("csrc/cpu/"))
    if shutil.which("c++"):
        how = ["c++", "-std=c++17", "-fsyntax-only", "-Icsrc"]
        subprocess.run([*how, source], cwd=folder, check=True)
