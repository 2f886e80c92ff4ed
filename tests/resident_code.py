"""The resident MLP's machine code for Hopper, compiled by nvcc."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import machine_code
import occupancy

ROOT = Path(__file__).parent.parent
FLAGS = "-std=c++17 -O3 -fmad=false -arch=sm_90 -Icsrc -cubin csrc/cuda/resident.cu"
THREADS = 256

home = os.environ.get("CUDA_HOME")
NVCC = shutil.which("nvcc", path=f"{home}/bin" if home else None)


def call(*command: object) -> str:
    """What a command prints; AssertionError with its errors if it fails."""
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def cubin() -> bytes:
    """Of a kernel for each tile of the products."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "resident.cubin"
        call(NVCC, *FLAGS.split(), "-o", made)
        return made.read_bytes()


def rows(made: bytes) -> list[dict[str, Any]]:
    """Like those of `aot.compiled`, of each kernel; shared memory as much as it may ask for."""
    texts, used = machine_code.texts(made), machine_code.resources(made)
    codes = machine_code.disassembled(list(texts.values()))
    return [
        dict(
            form=f"{samples_of(name)} samples",
            kernel="resident",
            threads=THREADS,
            registers=used[name]["REG"],
            spilled=used[name]["STACK"] + used[name]["LOCAL"],
            shared=occupancy.MOST_SHARED,
            code=machine_code.counts(code),
        )
        for name, code in zip(texts, codes, strict=True)
    ]


def samples_of(name: str) -> int:
    """The template's argument in a mangled name."""
    found = re.search(r"residentILi(\d+)E", name)
    assert found, name
    return int(found[1])
