"""The sdist has all that a build needs, and the wheel built from it works elsewhere."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import fedfast
from fedfast import _fedfast, config, example_files
from fedfast.cli import main

ROOT = Path(__file__).parent.parent

PROGRAM = """
import fedfast, torch
from fedfast import kernels
from fedfast.cli import main
out = kernels.mix(torch.ones(2, 3), torch.ones(3), 2.0, 3.0, backend="native")
assert out.tolist() == [[5.0] * 3] * 2
print(fedfast.__file__)
print(kernels.__file__)
assert main(["run", "quickstart", "--rounds", "1", "--out", "first"]) == 0
"""
SDIST = "from setuptools import build_meta; build_meta.build_sdist('dist')"


def call(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(folder, pattern):
    """Those of a folder, without the link to kernels/ that a checkout may have in fedfast/."""
    found = (path.relative_to(folder) for path in folder.rglob(pattern))
    return {path.as_posix() for path in found if path.parts[0] != "kernels"}


def _not_tracked(folder, names):
    """What git ignores, so far as a checkout has it: folders of the top, and built files."""
    top = {".git", ".venv", ".venv-triton36", "build", "dist", "runs", "data", "shared"}
    made = {name for name in names if re.search(r"\.(so|egg-info)$|__pycache__|_cache$", name)}
    return made | (top & set(names) if Path(folder) == ROOT else set())


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The sdist of a copy of the tree: building one leaves files there."""
    tree = tmp_path_factory.mktemp("sdist") / "tree"
    shutil.copytree(ROOT, tree, ignore=_not_tracked)
    call(sys.executable, "-c", SDIST, cwd=tree)
    (made,) = (tree / "dist").iterdir()
    return made


def test_the_sdist_is_the_whole_tree(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("csrc", "examples", "docs", "tests", "fedfast", "kernels"):
        for kind in ("*.py", "*.cpp", "*.cu", "*.h", "*.md", "*.yaml", "*.png", "Makefile"):
            assert {f"{folder}/{name}" for name in files(ROOT / folder, kind)} <= names
    assert {"LICENSE", "CITATION.cff", "Makefile", "constraints.txt", "mkdocs.yml"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc")) or "/.venv" in name]


def _compiled_already(sdist, folder):
    """The sdist's tree, with the module of these tests where its build would put it.

    Compiling is two minutes; the same sources are compiled by every `make setup`, those of the
    sdist by `make try-dist`.
    """
    # Python 3.10 and 3.11 have filters from 3.10.12 and 3.11.4 on.
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, **safely)
    (tree,) = folder.iterdir()
    built = f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    (tree / "build" / built / "fedfast").mkdir(parents=True)
    module = Path(_fedfast.__file__)
    shutil.copyfile(module, tree / "build" / built / "fedfast" / module.name)  # newer than csrc
    return tree


def test_its_wheel_installs_elsewhere_and_runs_an_example(sdist, tmp_path, monkeypatch):
    tree = _compiled_already(sdist, tmp_path / "tree")
    for name in ("CC", "CXX"):
        monkeypatch.setenv(name, "false")  # nothing is compiled
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    build = ("--no-build-isolation", "--no-deps", "--wheel-dir", str(tmp_path), str(tree))
    call(*pip, "wheel", *build, cwd=tmp_path)
    (wheel,) = tmp_path.glob("fedfast-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    kept = {f"fedfast/examples/{path.name}" for path in (ROOT / "examples").glob("*.*")}
    kept |= {f"fedfast/examples/{name}" for name in files(ROOT / "examples", "*.yaml")}
    kinds = ("*.py", "*.jinja", "py.typed")
    kept |= {f"fedfast/{name}" for kind in kinds for name in files(ROOT / "fedfast", kind)}
    data = files(ROOT / "kernels", "*.csv")
    kept |= {f"fedfast/kernels/{name}" for name in files(ROOT / "kernels", "*.py") | data}
    assert kept <= names
    call(*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel), cwd=tmp_path)
    isolated = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n{PROGRAM}"
    printed = call(sys.executable, "-c", isolated, cwd=tmp_path).splitlines()
    assert all(line.startswith(str(tmp_path / "site")) for line in printed[:2])
    assert (tmp_path / "first" / "history.csv").read_text().count("\n") == 3


NVCC = """#!/bin/sh
sleep 300 &
echo $! > "$SLEEPER.new" && mv "$SLEEPER.new" "$SLEEPER"
wait
"""
CXX = """#!/bin/sh
while [ ! -e "$SLEEPER" ]; do sleep 0.1; done
exit 1
"""


def ended(process):
    """Whether a process is gone, or waits for nothing but to be forgotten."""
    stat = Path("/proc", str(process), "stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="nvcc is looked for on Linux alone")
def test_what_a_compiler_says_does_not_wait_for_nvcc(tmp_path, monkeypatch):
    """Which would take minutes here, with what it calls."""
    for name, text in ("bin/nvcc", NVCC), ("g++", CXX):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("SLEEPER", str(tmp_path / "sleeper"))
    for name in ("CC", "CXX"):
        monkeypatch.setenv(name, str(tmp_path / "g++"))
    built = ("--build-temp", str(tmp_path / "temp"), "--build-lib", str(tmp_path / "lib"))
    call = [sys.executable, "setup.py", "build_ext", "--force", *built]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode != 0 and "a C++17 compiler is needed" in done.stderr
    assert ended((tmp_path / "sleeper").read_text().strip())


def test_one_version_is_written_everywhere():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == fedfast.__version__
    project = (ROOT / "pyproject.toml").read_text().split("[project]")[1].split("\n[")[0]
    assert not re.search(r"^version *=", project, re.MULTILINE)


def test_citation_has_what_its_format_requires():
    """The required keys of CFF 1.2.0, and those of an author that is no person."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["cff-version"] == "1.2.0" and cited["license"] == "Apache-2.0"
    assert all(author["name"] for author in cited["authors"])


def test_every_example_is_listed_and_every_config_loads(capsys):
    known = example_files.names()
    found = {*(ROOT / "examples").rglob("*.yaml"), *(ROOT / "examples").rglob("*.py")}
    assert set(known.values()) == {path for path in found if path.name != "__init__.py"}
    assert main(["examples"]) == 0 and main(["examples", "papers/pa4"]) == 0
    listed = capsys.readouterr().out
    assert "quickstart" in listed and "papers/pa4/tables5-8-mild" in listed
    for name, path in known.items():
        assert example_files.about(path), f"{name}: expected a first line that says what it is"
    for name in ("quickstart", "papers/fednsam/cifar100-dirichlet0.1"):
        assert config.load(name) == config.load(known[name])


def test_a_file_goes_before_an_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()  # a folder is no config
    assert config.load("quickstart").rounds == 50
    (tmp_path / "quickstart").rmdir()
    (tmp_path / "quickstart").write_text(
        "rounds: 3\nalgorithms: {fedavg: {}}\ndata: {name: digits}"
    )
    assert example_files.config_file(Path("quickstart")) == Path("quickstart")


def test_copies_never_replace_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["examples", "copy", "quickstart", "new/folder"]) == 0
    copied = tmp_path / "new" / "folder" / "quickstart.yaml"
    assert copied.read_bytes() == (ROOT / "examples" / "quickstart.yaml").read_bytes()
    copied.write_text("mine")
    assert main(["examples", "copy", "quickstart", "new/folder"]) == 2
    assert copied.read_text() == "mine"
    assert capsys.readouterr().err.endswith(
        "quickstart.yaml: is there already; nothing was copied\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["examples", "copy", "quikstart"], "example: unknown name 'quikstart'; did you mean"),
        (["examples", "paper"], "examples: folder: unknown name 'paper'; did you mean 'papers'?"),
        (["examples", "copy"], "examples: expected nothing, a folder, or copy NAME; found 'copy'"),
        (["run", "quikstart"], "quikstart: cannot be read: No such file or directory; did"),
        (["run", "examples/quickstart.yml"], "examples/quickstart.yml: cannot be read: No such"),
        (["reproduce", "papers/pa5"], "papers/pa5: found nothing there; did you mean"),
    ],
)  # fmt: skip
def test_wrong_names_are_one_line(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"fedfast: {says}")
    assert not list(tmp_path.iterdir())
