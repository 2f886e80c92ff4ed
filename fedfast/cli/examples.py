"""`fedfast examples`: the configs and scripts that come with the package, listed and copied."""

from __future__ import annotations

import sys
from pathlib import Path

from . import fail

USAGE = """\
usage: fedfast examples [FOLDER]
       fedfast examples copy NAME [DIR]

Lists the examples that come with fedfast, or those in one of their folders (papers/fedfsa). A
config runs by its name: fedfast run quickstart. `copy` puts one into DIR (default: here) to be
changed; a file of its name that is there already stays as it is.
"""


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for an unknown name or a file that is in the way."""
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    wanted = (2, 3) if argv[:1] == ["copy"] else (0, 1)
    if len(argv) not in wanted or any(word.startswith("-") for word in argv):
        print(USAGE, end="", file=sys.stderr)
        return fail(f"examples: expected nothing, a folder, or copy NAME; found {' '.join(argv)!r}")
    try:
        return _copy(*argv[1:]) if argv[:1] == ["copy"] else _list(*argv)
    except FileExistsError as error:
        return fail(f"{error.filename}: is there already; nothing was copied")
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}")
    except ValueError as error:
        return fail(str(error))


def _copy(name: str, folder: str = ".") -> int:
    from ..example_files import copy

    print(copy(name, folder))
    return 0


def _list(folder: str = "") -> int:
    from .. import example_files
    from .._messages import unknown

    files = example_files.names()
    below = folder.strip("/")
    inside = {name: path for name, path in files.items() if Path(name).parent == Path(below)}
    folders: dict[str, int] = {}
    for name in files:
        for above in Path(name).parents[:-1]:
            folders[above.as_posix()] = folders.get(above.as_posix(), 0) + 1
    if below and below not in folders:
        return fail(str(unknown("examples: folder", below, folders)))
    rows = {name: example_files.about(path) for name, path in inside.items()}
    for name, count in folders.items():
        if Path(name).parent == Path(below):
            rows[f"{name}/"] = f"{count} examples: fedfast examples {name}"
    _print(rows)
    return 0


def _print(rows: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, text)
    Console(highlight=False, markup=False).print(table)
