"""csrc/cuda compiled for the host: threads of a cluster are fibers on one core."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pybind11
import pytest
from filelock import FileLock

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "csrc" / "cuda"
FLAGS = "-std=c++17 -O2 -Wall -Wextra -Werror -Wno-unknown-pragmas -fPIC -fvisibility=hidden"
FLAGS += f" -ffp-contract=off -DFEDFAST_CUDA_ON_HOST -I{ROOT / 'csrc'}"
UNITS = ("resident_plan.cpp", "host_grid.cpp", "bindings.cpp", "resident.cu")


def module(folder: Path) -> ModuleType:
    """The module, built in `folder` by whichever process asks first."""
    if sys.platform != "linux":
        pytest.skip("the fibers of the host's build are Linux's")
    files = sorted(path for path in SOURCES.iterdir())
    mark = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    target = folder / mark / f"_fedfast_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    target.parent.mkdir(exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.exists():
            _build(target)
    spec = spec_from_file_location("_fedfast_cuda", target)
    assert spec is not None and spec.loader is not None
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def _build(target: Path) -> None:
    paths = sysconfig.get_paths()["include"], pybind11.get_include()
    include = [f"-I{path}" for path in paths]
    jobs = []
    for name in UNITS:
        call = ["c++", *FLAGS.split(), *include, "-x", "c++", "-c", str(SOURCES / name)]
        jobs.append(subprocess.Popen([*call, "-o", str(target.with_name(f"{name}.o"))]))
    assert [job.wait() for job in jobs] == [0] * len(UNITS)
    objects = [str(target.with_name(f"{name}.o")) for name in UNITS]
    subprocess.run(["c++", "-shared", *objects, "-o", f"{target}.part"], check=True)
    Path(f"{target}.part").rename(target)
