"""Commands that take no config: their flags, a wrong one told in a line with the nearest known."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from .._messages import unknown
from ..own_modules import USER
from . import fail


class FlagParser(argparse.ArgumentParser):
    """argparse that raises ValueError where it would print its usage and exit."""

    def __init__(self, command: str, usage: str) -> None:
        text = usage.removeprefix("usage: ").replace("%", "%%")  # argparse formats it
        super().__init__(command, usage=text, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)

    def flags(self, argv: Sequence[str]) -> argparse.Namespace:
        """The values, positional ones before, between and after flags."""
        options, other = self.parse_known_intermixed_args(argv)
        if other:
            known = [flag for action in self._actions for flag in action.option_strings]
            raise unknown("flag", other[0].split("=")[0], known)
        return options


def answered(
    argv: Sequence[str], usage: str, work: Callable[[], int], *more: type[Exception]
) -> int:
    """The exit status of `work()`; of help alone, where it is asked for; 2 for a user's error.

    more  errors that are said in a line, besides `USER`
    """
    if argv and argv[0] in ("-h", "--help"):
        print(usage, end="")
        return 0
    known: tuple[type[Exception], ...] = (*USER, *more)
    try:
        return work()
    except known as error:
        return fail(str(error))
