"""`run.json`: what people and programs want to know of each label of a run folder."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import atomic
from ..history import History

if TYPE_CHECKING:
    from ..simulation import Simulation

NAME = "run.json"


@dataclass(frozen=True)
class About:
    """One label.

    seconds   that it has taken, in all its parts
    done      whether nothing is left of it
    stopped   whether it ended early because a model became non-finite
    ended     why it ended early otherwise: what `sim.stop` was told
    device, versions  that it ran on last; precision: how far products were rounded there
    memory    the plan of its memory, for the summary
    history   SHA-256 of its rows, where they are all that is kept of it
    """

    seconds: float = 0.0
    done: bool = False
    stopped: bool = False
    ended: str = ""
    device: str = "?"
    versions: str = ""
    precision: str = ""
    memory: str = ""
    history: str = ""


def read(folder: Path) -> dict[str, About]:
    """label -> what is known; nothing where there is no file.

    Raises ValueError naming the file where it is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        kept = json.loads(path.read_bytes().decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON in UTF-8: {error}; remove it to go on") from error
    if not isinstance(kept, dict) or kept.pop("checksum", _sum(kept)) != _sum(kept):
        raise ValueError(f"{path}: damaged: its checksum is another; remove it to go on")
    labels = kept.get("labels")
    if not isinstance(labels, dict):
        raise ValueError(f"{path}: expected labels, found {kept}")
    return {label: of(found, path) for label, found in labels.items()}


def of(found: object, path: Path) -> About:
    """One label's values, checked. Raises ValueError naming the file."""
    types = {"float": int | float, "bool": bool, "str": str}
    kinds = {field.name: types[str(field.type)] for field in fields(About)}
    known = {k: v for k, v in found.items() if k in kinds} if isinstance(found, dict) else None
    if known is None or not all(isinstance(v, kinds[k]) for k, v in known.items()):
        raise ValueError(f"{path}: expected numbers and true or false, found {found}")
    return About(**known)


def write(folder: Path, labels: Mapping[str, About]) -> None:
    """Replaces the file. Raises OSError naming it."""
    kept: dict[str, object] = {"labels": {label: asdict(about) for label, about in labels.items()}}
    text = json.dumps({**kept, "checksum": _sum(kept)}, indent=1) + "\n"
    atomic(folder / NAME, lambda to: to.write_text(text, encoding="utf-8"))


def history_sum(history: History) -> str:
    """The checksum of a label's rows."""
    return hashlib.sha256(history.csv().encode()).hexdigest()


def begun(about: About, sim: Simulation) -> About:
    """What is known of a label that `sim` goes on with."""
    import torch

    from .._version import __version__

    gpu = sim.device.type == "cuda"
    return replace(
        about,
        done=False,
        ended="",
        memory=str(sim.memory),
        device=torch.cuda.get_device_name(sim.device) if gpu else _cpu(sim.threads),
        precision=sim.precision,
        versions=f"fedfast {__version__}, torch {torch.__version__}",
    )


def _sum(kept: object) -> str:
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _cpu(threads: int) -> str:
    """The processor's name where the system reports it, and how many threads of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"
