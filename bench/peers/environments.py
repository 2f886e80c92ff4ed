"""The contestants, and an environment from PyPI for each that needs one, made once and kept.

build/peers/NAME    of bench's working tree; a file `requirements.txt` in it says it is complete
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2] / "build" / "peers"
TORCH = "torch==2.13.0"
PFL = {"scaffold": "pfl's correction c - c_i has the other sign than the paper's"}
TUNED = ("1 worker x 2 threads", "2 workers x 1 thread")
VMAP = ("10 clients at once", "all at once")
QUIET = ("install", "--quiet", "--disable-pip-version-check")


@dataclass(frozen=True)
class Contestant:
    """Somebody who trains rounds.

    script    module of this package, and its arguments before the task's folder
    packages  what PyPI must give it; empty: runs in this interpreter's environment
    python    the interpreters its packages have wheels for, best first
    needs     packages of this interpreter's environment
    settings  tried on the first round, of which the fastest is kept; where there is one, it is the
              best we know
    restless  its processes work while they wait, so that they are stopped between its turns
    variants  algorithm -> what it computes otherwise: as much work, but other numbers
    """

    name: str
    title: str
    script: tuple[str, ...]
    packages: tuple[str, ...] = ()
    python: tuple[str, ...] = ("3.12", "3.11", "3.10")
    needs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ("1 thread", "2 threads")
    restless: bool = False
    variants: Mapping[str, str] = field(default_factory=dict)


CONTESTANTS = (
    Contestant("fedfast", "fedfast", ("native",)),
    Contestant("fedfast-flower", "fedfast under Flower", ("fedfast_flower",), needs=("flwr",)),
    Contestant("fedfast-pfl", "fedfast under pfl", ("fedfast_pfl",), needs=("pfl",), variants=PFL),
    Contestant(
        "flower",
        "Flower's simulation",
        ("flower",),
        ("flwr[simulation]==1.42.0", TORCH),
        settings=("a client per core at a time",),
        restless=True,  # Ray's
    ),
    Contestant("pfl", "pfl-research", ("pfl",), ("pfl==0.6.0", TORCH), variants=PFL),
    Contestant(
        "fedjax",
        "FedJAX",
        ("fedjax",),
        ("fedjax==0.0.17", "jax==0.5.3", "jaxlib==0.5.3"),
        settings=("XLA's threads",),
    ),
    Contestant(
        "fedlab", "FedLab", ("fedlab",), ("fedlab==1.3.0", "torch==2.14.1", "torchvision==0.29.1")
    ),
    Contestant(
        "flsim",
        "FLSim",
        ("flsim",),
        # its dataclasses end at Python 3.10, and its code at the torch of its year
        (
            "flsim==0.1.0",
            "torch==1.12.1",
            "torchvision==0.13.1",
            "opacus==1.3.0",
            "numpy<2",
            "setuptools<70",
        ),
        ("3.10",),
    ),
    Contestant("blazefl", "BlazeFL", ("blazefl",), ("blazefl", "torch"), ("3.14",)),
    Contestant("typical", "a typical torch script", ("scripts", "typical")),
    Contestant("tuned", "a tuned torch script", ("scripts", "tuned"), settings=TUNED),
    Contestant("vmap", "torch vmap, compiled", ("scripts", "vmap"), settings=VMAP[:1]),
    Contestant(
        "jax-vmap",
        "JAX vmap",
        ("jax_vmap",),
        ("jax==0.10.2",),
        settings=VMAP,
    ),
)


class Unavailable(Exception):
    """Why a contestant cannot run here."""


def interpreter(contestant: Contestant) -> str:
    """The Python of the contestant's environment, made if it is not there yet.

    Raises Unavailable with the reason.
    """
    for package in contestant.needs:
        if subprocess.run(
            [sys.executable, "-c", f"import {package}"], capture_output=True
        ).returncode:
            raise Unavailable(f"{package} is not installed beside fedfast")
    if not contestant.packages:
        return sys.executable
    folder = ROOT / contestant.name
    done, wanted = folder / "requirements.txt", "\n".join(contestant.packages) + "\n"
    if not done.exists() or done.read_text() != wanted:
        _make(folder, contestant)
        done.write_text(wanted)
    return str(folder / "bin" / "python")


def _make(folder: Path, contestant: Contestant) -> None:
    base = _base(contestant.python)
    print(f"  {contestant.name}: {' '.join(contestant.packages)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [base, "-m", "venv", str(folder)],
        [str(folder / "bin" / "pip"), *QUIET, *contestant.packages],
    ):
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            raise Unavailable(made.stderr.strip().splitlines()[-1])


def _base(versions: tuple[str, ...]) -> str:
    """An interpreter of one of these versions: this one if it is, or found on the machine."""
    own = "{}.{}".format(*sys.version_info[:2])
    candidates = [getattr(sys, "_base_executable", sys.executable)] if own in versions else []
    for version in versions:
        candidates += [f"python{version}", *_pyenv(version)]
    for candidate in candidates:
        found = shutil.which(candidate)
        # a shim of pyenv is there for versions that are not active, and fails
        if found and not subprocess.run([found, "--version"], capture_output=True).returncode:
            return found
    raise Unavailable(f"needs Python {' or '.join(versions)}")


def _pyenv(version: str) -> list[str]:
    return [str(p) for p in Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
