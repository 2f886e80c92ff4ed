"""`fedfast partition CONFIG [--field value ...]`: who holds what, before anything is trained."""

from __future__ import annotations

import sys

from . import fail
from .setting import USER, prepare

USAGE = """\
usage: fedfast partition CONFIG [--field value ...]

Prints how many samples and classes the clients of a config hold.
"""


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for a config that cannot be used."""
    from .. import config as configs
    from ..data import describe

    if argv and argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if not argv:
        print(USAGE, end="", file=sys.stderr)
        return fail("expected the path of a config file, found nothing")
    try:
        setting = prepare(configs.load(argv[0], argv[1:]))
    except (configs.ConfigError, *USER) as error:
        return fail(str(error))
    print(f"{setting.data.name}: {describe(setting.clients)}")
    return 0
