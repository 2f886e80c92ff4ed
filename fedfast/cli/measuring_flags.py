"""Flags that all commands take which measure finished runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .flag_parser import FlagParser

FORMATS = ("png", "pdf", "svg", "eps")


def names(text: str) -> tuple[str, ...]:
    """Of "a,b". Raises ArgumentTypeError for none."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"expected names divided by commas; got {text!r}")
    return found


def flags(command: str, usage: str) -> FlagParser:
    """What all of them take: runs, --labels, --clients, --out, --format."""
    parser = FlagParser(f"fedfast {command}", usage)
    parser.add_argument("runs", nargs="*", type=Path)
    for name in ("--labels", "--clients"):
        parser.add_argument(name, type=names)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--format", type=names, default=("png", "pdf"))
    return parser


def options_of(parser: FlagParser, argv: Sequence[str]) -> argparse.Namespace:
    """Those of `flags` checked, before any work; clients are numbers, None where not given."""
    options = parser.flags(argv)
    if not options.runs:
        raise ValueError(f"expected folders of runs, found nothing; see {parser.prog} --help")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out: expected a folder; got the file {options.out}")
    check_formats(options.format)
    if options.clients is not None:
        options.clients = clients_of(options.clients)
    return options


def clients_of(given: Sequence[str]) -> tuple[int, ...]:
    """Numbers of `--clients`. Raises ValueError for what is none."""
    for name in given:
        if not name.isdecimal():
            raise ValueError(f"--clients: expected numbers of clients; got {name!r}")
    return tuple(map(int, given))


def check_formats(given: Sequence[str]) -> None:
    """Raise ValueError for a kind of file that figures are not written as."""
    for kind in given:
        if kind not in FORMATS:
            raise ValueError(f"--format: expected {', '.join(FORMATS)}; got {kind!r}")
