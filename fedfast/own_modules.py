"""A user's own modules: imported by name, and what went wrong in their code said in one line."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from traceback import walk_tb
from types import FrameType, ModuleType

from ._messages import unknown

STANDARD = str(Path(os.__file__).parent)
USER = (ValueError, TypeError, OSError)  # what checks of a user's input raise
FORM = "expected package.module:Name"


def imported(kind: str, name: str, accepts: Callable[[object], bool]) -> object:
    """What `package.module:Name` holds.

    kind     what errors call the thing
    accepts  which of a module's attributes errors offer in place of an unknown one
    Raises ValueError where there is no such module or attribute, or the module's code fails.
    """
    path, _, attribute = name.partition(":")
    if not attribute or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"{kind}: {FORM}; got {name!r}")
    module = _module(f"{kind} {name}", path)
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            where = getattr(module, "__file__", None) or path
            raise unknown(f"{kind} {name}: {where}", part, _names(found, part, accepts))
        found = getattr(found, part)
    return found


def said(error: BaseException) -> str:
    """`KeyError: 'x' (mymod.py:12)`: the error and the line of the user's code that it is from."""
    text, place = str(error), _place(error)
    if place:
        text = " ".join(text.splitlines())
    if not isinstance(error, USER) or not text:
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return f"{text} ({place})" if place else text


@contextmanager
def refused(what: str) -> Iterator[None]:
    """What a user's values or code raise within is a ValueError that begins with `what`.

    That is ValueError, TypeError, OSError and `sys.exit` of any code, and every error of a user's.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if not (isinstance(error, (*USER, SystemExit)) or _place(error)):
            raise  # a mistake of ours: the traceback is what helps
        text = said(error)
        raise ValueError(text if text.startswith(what) else f"{what}: {text}") from error


def _module(what: str, path: str) -> ModuleType:
    try:
        return import_module(path)
    # Whatever the user's module raises; `sys.exit` in it must not end the program.
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{path}.".startswith(f"{error.name}.")
        why = f"; {_looked(path)}" if missing else ""
        at = f", {place}" if (place := _place(error)) else ""
        raise ValueError(
            f"{what}: cannot import the module {path!r} ({type(error).__name__}: {error}{at}){why}"
        ) from error


def _looked(path: str) -> str:
    """Where modules are looked for, and the nearest one of the current directory."""
    near = get_close_matches(path, [found.name for found in pkgutil.iter_modules([os.getcwd()])], 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    paths = os.environ.get("PYTHONPATH", "")
    return (
        f"{hint}{FORM}, of a module in the current directory ({os.getcwd()}), "
        f"in PYTHONPATH ({paths or 'not set'}) or installed"
    )


def _names(owner: object, wanted: str, accepts: Callable[[object], bool]) -> list[str]:
    """The public names of a module: those that can be meant, made there and not imported."""
    public = [name for name in dir(owner) if not name.startswith("_")]
    if not isinstance(owner, ModuleType):
        return public
    own = [
        name
        for name in public
        if accepts(value := getattr(owner, name))
        and getattr(value, "__module__", owner.__name__) == owner.__name__
    ]
    return own or public


def _place(error: BaseException) -> str:
    """`mymod.py:12`, the innermost line of the traceback that is of no library; "" without one."""
    if isinstance(error, SyntaxError) and error.filename:
        return ""  # its text names the place
    steps = [step for step in walk_tb(error.__traceback__) if not _of_library(step[0])]
    return f"{Path(steps[-1][0].f_code.co_filename).name}:{steps[-1][1]}" if steps else ""


def _of_library(frame: FrameType) -> bool:
    """Whether a frame's code is ours, Python's or an installed package's."""
    file, module = frame.f_code.co_filename, str(frame.f_globals.get("__name__"))
    return (
        module.split(".")[0] == "fedfast"
        or file.startswith((STANDARD, "<frozen"))
        or "site-packages" in file
    )
