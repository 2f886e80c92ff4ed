"""`loggers.json` of a run folder: what loggers must know to go on with a run.

{LABEL: {"wandb": {"id", "folders"}, "mlflow": {"id"}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ...files import atomic

NAME = "loggers.json"


def read(folder: Path | None, label: str, logger: str) -> dict[str, object]:
    """What this logger kept of a label; nothing where there is no folder, or no such file."""
    found = _all(folder).get(label) if folder else None
    own = found.get(logger) if isinstance(found, Mapping) else None
    return dict(own) if isinstance(own, Mapping) else {}


def write(folder: Path | None, label: str, logger: str, kept: Mapping[str, object]) -> None:
    """Keeps it, if there is a folder. Raises OSError naming the file."""
    if folder is None:
        return
    found = _all(folder)
    own = found.get(label)
    found[label] = {**(own if isinstance(own, Mapping) else {}), logger: dict(kept)}
    _write(folder, found)


def remove(folder: Path | None, label: str) -> None:
    """Forgets the label; the file goes with the last one."""
    found = _all(folder) if folder else {}
    if folder is None or found.pop(label, None) is None:
        return
    if found:
        _write(folder, found)
    else:
        (folder / NAME).unlink()


def _write(folder: Path, found: Mapping[str, object]) -> None:
    text = json.dumps(found, indent=1) + "\n"
    atomic(folder / NAME, lambda to: to.write_text(text, encoding="utf-8"))


def _all(folder: Path) -> dict[str, object]:
    try:
        found = json.loads((folder / NAME).read_bytes().decode("utf-8"))
    except (FileNotFoundError, ValueError):  # a damaged file costs no run: the log is a new one
        return {}
    return found if isinstance(found, dict) else {}
