"""The folder of a sweep: its config, section `sweep` included, and who works in it.

    config.yaml                        `fedfast sweep` on it, or `fedfast resume FOLDER`, goes on
    COMBINATION/LABEL/seed-N/          one run folder per row
    sweep.csv                          one line per row
    .lock                              while a process works in it

Seeds, grid and search may grow from call to call: the rows of a folder are those of its last call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import config as configs
from ..config import RunConfig
from ..files import atomic, locked, sweep_folder
from ..runs.changes import check


@contextmanager
def claimed(path: Path, config: RunConfig, comment: str) -> Iterator[None]:
    """The folder for the block, made or of the same base configuration.

    Raises ValueError naming every field that differs, BlockingIOError where another process works
    in it, OSError where it cannot be made.
    """
    path.mkdir(parents=True, exist_ok=True)
    with locked(path / ".lock", str(path)):
        _check(path, config)
        sweep_folder(path)
        text = configs.dumps(config.model_copy(update={"out": str(path)}), comment)
        atomic(path / "config.yaml", lambda to: to.write_text(text, encoding="utf-8"))
        yield


def _check(path: Path, config: RunConfig) -> None:
    kept = path / "config.yaml"
    if not kept.exists():
        if left := [p.name for p in path.iterdir() if not p.name.startswith(".")]:
            raise ValueError(f"out: expected a new folder or a sweep's, found {left[0]} in {path}")
        return
    old = configs.load_kept(kept)
    if old.sweep is None:
        raise ValueError(f"out: {path} holds a run, not a sweep; give another --out")
    check(path, old, config, {})
