"""Texts of error messages: values, paths, unknown names."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from inspect import Parameter, signature
from os import PathLike, fspath
from pathlib import Path

# Longer integers are described by their bits: Python refuses to print very long ones.
LONGEST = 10**40
PACKAGE = str(Path(__file__).parent)


def format_value(value: object) -> str:
    """`value` as error messages print it: a short `repr` that never raises.

    >>> format_value("mpl"), format_value(1 << 9000)
    ("'mpl'", 'an integer of 9001 bits')
    """
    if isinstance(value, int) and abs(value) >= LONGEST:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = repr(value)
    except Exception:  # an object's own `__repr__`, or a long integer inside a list
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def path_of(name: str, value: object) -> Path:
    """A path. TypeError naming the argument for what is none, ValueError for one with a zero byte.

    >>> path_of("path", "runs/state").name
    'state'
    """
    text = fspath(value) if isinstance(value, (str, PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a path; got {format_value(value)}")
    if not text or "\0" in text:
        raise ValueError(f"{name}: expected a path; got {format_value(value)}")
    return Path(text)


def warn_user(text: str) -> None:
    """Warn at the user's line: the innermost that is not of this package.

    Functions under a context manager as decorator are called by contextlib.
    """
    frame, level, own = sys._getframe(1), 2, (PACKAGE, contextlib.__file__)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """The error to raise when `name` is not one of the `known` names of a `kind` of thing.

    >>> print(unknown("model", "mpl", ["cnn", "mlp"]))
    model: unknown name 'mpl'; did you mean 'mlp'? known: cnn, mlp
    """
    names = sorted(known)
    tries = (name.lower(), name) if isinstance(name, str) else ()
    nearest = [near for spelt in tries for near in get_close_matches(spelt, names, n=1)]
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return ValueError(f"{kind}: unknown name {format_value(name)}; {hint}known: {', '.join(names)}")


def check_options(
    kind: str, function: Callable[..., object], options: Iterable[str], own: Collection[str] = ()
) -> None:
    """Raise `unknown` for the first of `options` that is no parameter of `function`.

    own: parameters that the caller fills in itself and that are no options. A function with
    `**options` checks them itself.
    """
    parameters = signature(function).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [name for name in parameters if name not in own]
    for option in options:
        if option not in known:
            raise unknown(f"{kind} option", option, known)
