"""A wheel built from the tree works elsewhere: kernels, compiled module, annotations."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

PROGRAM = """
import fedfast, torch
from fedfast import kernels
out = kernels.mix(torch.ones(2, 3), torch.ones(3), 2.0, 3.0, backend="native")
assert out.tolist() == [[5.0] * 3] * 2
print(fedfast.__file__)
print(kernels.__file__)
"""


def call(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_installs_elsewhere(tmp_path):
    tree = tmp_path / "tree"
    leave = shutil.ignore_patterns(".*", "build", "*.egg-info", "*.so", "__pycache__", "runs")
    shutil.copytree(ROOT, tree, ignore=leave)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    build = ("--no-build-isolation", "--no-deps", "--wheel-dir", str(tmp_path), str(tree))
    call(*pip, "wheel", *build, cwd=tmp_path)
    (wheel,) = tmp_path.glob("fedfast-*.whl")
    call(*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel), cwd=tmp_path)
    isolated = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n{PROGRAM}"
    printed = call(sys.executable, "-c", isolated, cwd=tmp_path).split()
    assert all(line.startswith(str(tmp_path / "site")) for line in printed)
    assert (tmp_path / "site" / "fedfast" / "py.typed").exists()
