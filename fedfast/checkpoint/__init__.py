"""A simulation between two rounds as a file: what is needed to go on as if it never stopped.

    PATH           the newest state, one file (`container.py`): tensors, manifest, checksums
    PATH.previous  the one before, which is taken where the newest is damaged or gone

Everything random is a function of (seed, round, client), so that there is no generator to keep.
`save` writes to a temporary file, makes it durable and renames it, under a lock; `load` checks
everything before it changes anything. States of format 1 (torch.save) are read as well.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import Tensor

from .._messages import path_of
from ..build import Components
from ..clients import Kept
from ..files import atomic, locked, sweep, written
from ..history import Rows
from ..row_blocks import Part
from . import container, format1
from .container import Damaged
from .contents import Contents, checked, history_of, history_part, taken
from .identity import FREE as FREE
from .identity import defaults, differences, identity, listed

PATIENCE = 10.0  # seconds that `save` waits for another process that saves to the same file
HISTORY = "history"


def save(parts: Components, path: str | Path, kept: Kept | None = None) -> None:
    """Write the state of a simulation; what was at `path` becomes `PATH.previous`.

    kept  by clients of all processes, if not all of it is in this one
    Raises OSError naming the file where it cannot be written; the old state is still there then.
    """
    path = path_of("path", path)
    kept = parts.engine.clients.kept() if kept is None else kept
    found = taken(parts, identity(parts.design, len(parts.engine.committed.rows)), kept)
    manifest = {
        "identity": found.identity,
        "plan": found.span,
        "stopped": found.stopped,
        "scalars": found.scalars,
    }
    tensors = {**found.parts(), HISTORY: history_part(found.rows)}
    with locked(path.with_name(f".{path.name}.lock"), str(path), PATIENCE):
        sweep(path)
        with written(path, lambda to: container.write(to, manifest, tensors)) as temporary:
            _keep(path)
            temporary.replace(path)


def load(parts: Components, path: str | Path, all_figures: bool = False) -> None:
    """Put a simulation, made with the same arguments, where `save` left the other one.

    all_figures  keep the figures of rounds that were evaluated because an earlier end was near
    Raises ValueError naming the file, and every field that differs, where it is of another run or
    damaged as its predecessor is, FileNotFoundError without a file. Nothing has changed then.
    """
    path = path_of("path", path)
    where, found = _newest(path)
    if found.identity is not None:
        ours = identity(parts.design, len(found.rows))
        wrong = differences(found.identity, ours, defaults(parts.engine.algorithm))
    else:
        wrong = format1.differences(parts.design, found)
    if wrong:
        raise ValueError(f"{where}: expected a state of {listed(wrong)}")
    try:
        if found.identity is None:
            found = format1.migrated(parts, found)
        parts.engine.committed = checked(parts, found, all_figures)
    except Damaged as error:
        raise ValueError(f"{where}: {error}") from error


def history(path: Path) -> Rows:
    """The rows of a saved simulation, the rest of it unread. Raises as `load` does."""
    return _newest(path, {HISTORY})[1].rows


def exists(path: Path) -> bool:
    """Whether there is a state to go on from."""
    return path.is_file() or previous(path).is_file()


def remove(path: Path) -> None:
    """Remove both states; the older one first, so that it is never the only one."""
    previous(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def previous(path: Path) -> Path:
    """Where the state before the newest is."""
    return path.with_name(f"{path.name}.previous")


def _keep(path: Path) -> None:
    """The state at `path` becomes the one before, unless it is none: a damaged one helps nobody."""
    if path.is_symlink() or not path.is_file():
        return
    try:
        _read(path)
    except Damaged:
        return
    atomic(previous(path), lambda to: _copy(path, to))


def _copy(path: Path, to: Path) -> None:
    """A second name of the same file where the file system has them."""
    to.unlink()
    try:
        to.hardlink_to(path)
    except OSError:
        to.write_bytes(path.read_bytes())


def _newest(path: Path, names: set[str] | None = None) -> tuple[Path, Contents]:
    """The newest state that is whole, and its file."""
    before = previous(path)
    try:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected a saved simulation, found no file")
        return path, _read(path, names)
    except (Damaged, FileNotFoundError) as error:
        if not before.is_file():
            raise
        try:
            found = _read(before, names)
        except Damaged as other:
            raise Damaged(f"{error}; and the one before it: {other}") from error
        warnings.warn(f"{error}; went on from {before}, round {len(found.rows)}", stacklevel=4)
        return before, found


def _read(path: Path, names: set[str] | None = None) -> Contents:
    if format1.claims(path):
        return format1.read(path)
    manifest, tensors = container.read(path, names)
    try:
        kept = {n: t for n, t in tensors.items() if isinstance(t, Tensor) and n != HISTORY}
        streamed: dict[str, Part] = {n: t for n, t in tensors.items() if not isinstance(t, Tensor)}
        history = tensors[HISTORY]
        assert isinstance(history, Tensor)
        rows = history_of(history)
        span = tuple(manifest["plan"])
        fields = manifest["identity"], span, rows, manifest["stopped"], manifest["scalars"]
        if not isinstance(fields[0], dict) or [type(n) for n in span] != [int] * 3:
            raise Damaged("its manifest is not one")
        return Contents(*fields, kept, streamed)
    except (KeyError, TypeError, Damaged) as error:
        raise Damaged(f"{path}: not a saved simulation, or a damaged one: {error}") from error
