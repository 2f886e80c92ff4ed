"""Files that are whole or not there: written beside their place, made durable, then renamed.

A temporary file has a name of its own and is made anew (`O_EXCL`, links are not followed); a link
at the target is replaced, never written through. A lock file keeps a second process away.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

PARTIAL = ".partial-"


def atomic(path: Path, write: Callable[[Path], object]) -> None:
    """`write(temporary)`, then a rename: readers see the old file or the new, never a half.

    Raises OSError naming `path` where it cannot be written; the old file is still there then.
    """
    with written(path, write) as temporary:
        os.replace(temporary, path)


@contextmanager
def written(path: Path, write: Callable[[Path], object]) -> Iterator[Path]:
    """A complete and durable file beside `path`, for the block to rename; else it goes again."""
    temporary: Path | None = None
    try:
        number, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}{PARTIAL}", suffix=path.suffix
        )
        temporary = Path(name)
        os.fchmod(number, 0o666 & ~_umask())
        os.close(number)
        write(temporary)
        _sync(temporary)
        yield temporary
        _sync(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, f"cannot write: {reason}", str(path)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what killed processes have left half written; only under the lock of `path`."""
    for left in path.parent.glob(f".{path.stem}{PARTIAL}*{path.suffix}"):
        left.unlink(missing_ok=True)


def sweep_folder(folder: Path) -> None:
    """Remove what killed processes have left half written in a folder that this process locks."""
    for left in folder.glob(f".*{PARTIAL}*"):
        if left.is_symlink() or left.is_file():
            left.unlink(missing_ok=True)


@contextmanager
def locked(lock: Path, what: str, seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file `lock` within the block; the system lets go of it when a process ends.

    what     that is locked, for the message
    seconds  to wait for another process
    Raises BlockingIOError naming the process that holds it, OSError for a link in its place.
    """
    if not lock.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "expected a folder, found none", str(lock.parent))
    guard = filelock.FileLock(lock)
    if lock.is_symlink():
        raise OSError(f"{lock}: expected a lock file, found a symbolic link; remove it")
    try:
        guard.acquire(timeout=seconds, poll_interval=0.01)
    except filelock.Timeout as error:
        if not lock.exists():
            raise OSError(errno.EACCES, "cannot make a lock file", str(lock)) from error
        raise BlockingIOError(
            f"{what}: in use by another process{_holder(lock)}; wait for it, or choose another"
        ) from error
    try:
        _sign(lock)
        yield
    finally:
        lock.unlink(missing_ok=True)  # whoever waits for it sees that it is gone, and makes another
        guard.release()


def _sign(lock: Path) -> None:
    """This process's number, for the message of the next one."""
    with suppress(OSError):
        number = os.open(lock, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0))
        with open(number, "w") as file:
            file.write(f"{os.getpid()}\n")


def _holder(lock: Path) -> str:
    try:
        text = lock.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f" (process {text})" if text.isdigit() else ""


def _sync(path: Path) -> None:
    """What was written is on the disk when this returns, the names in a folder too."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _umask() -> int:
    """What new files of this process may not be."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
