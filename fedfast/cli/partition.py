"""`fedfast partition CONFIG [--out FILE] [--field value ...]`: who holds what, before training."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..example_files import stem
from . import fail
from .setting import USER, Setting, prepare

if TYPE_CHECKING:
    from ..config import RunConfig

USAGE = """\
usage: fedfast partition CONFIG [--out FILE] [--field value ...]

Prints how many samples and classes the clients of a config hold, and draws a bubble for each class
of each client, its area the number of samples.

  --out FILE   where to draw, .png, .pdf or .svg (default: <name of CONFIG>-partition.png)
"""


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for a config that cannot be used."""
    from .. import config as configs

    if argv and argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if not argv:
        print(USAGE, end="", file=sys.stderr)
        return fail("expected the path of a config file, found nothing")
    try:
        out, flags = _out(argv[1:], f"{stem(argv[0])}-partition.png")
        config = configs.load(argv[0], flags)
        setting = prepare(config)
    except (configs.ConfigError, *USER) as error:
        return fail(str(error))
    _show(setting)
    try:
        setting.clients.plot(out, title(config))
    except USER as error:
        return fail(f"--out: {error}")
    print(out)
    return 0


def title(config: RunConfig) -> str:
    """`mnist: dirichlet, clients 100, alpha 0.3, min_size 1, seed 0`."""
    options = {k: v for k, v in config.partition_options().items() if v is not None}
    named = [config.partition.name, *(f"{key} {value}" for key, value in options.items())]
    return f"{config.data.name}: {', '.join(named)}"


def _out(flags: list[str], default: str) -> tuple[str, list[str]]:
    """The file to draw, and the other flags: a run's `out` means nothing here."""
    at = [i for i, flag in enumerate(flags) if flag == "--out" or flag.startswith("--out=")]
    if not at:
        return default, flags
    i = at[-1]
    if "=" in flags[i]:
        return flags[i].split("=", 1)[1], flags[:i] + flags[i + 1 :]
    if i + 1 == len(flags):
        raise ValueError("--out: expected a file, found nothing")
    return flags[i + 1], flags[:i] + flags[i + 2 :]


def _show(setting: Setting) -> None:
    from rich.console import Console

    from ..data import describe
    from ..report.partition_table import table

    print(f"{setting.data.name}: {describe(setting.clients)}")
    Console(highlight=False).print(table(setting.clients))
