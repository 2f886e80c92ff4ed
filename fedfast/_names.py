"""One way to say that a name is not known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from inspect import signature
from typing import Any


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """The error to raise when `name` is not one of the `known` names of a `kind` of thing.

    >>> print(unknown("model", "mpl", ["cnn", "mlp"]))
    model: unknown name 'mpl'; did you mean 'mlp'? known: cnn, mlp
    """
    names = sorted(known)
    nearest = get_close_matches(str(name).lower(), names, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return ValueError(f"{kind}: unknown name {name!r}; {hint}known: {', '.join(names)}")


def check_options(
    kind: str, function: Callable[..., Any], options: Iterable[str], own: Collection[str] = ()
) -> None:
    """Raise `unknown` for the first of `options` that is no parameter of `function`.

    own: parameters that the caller fills in itself and that are no options.
    """
    known = [name for name in signature(function).parameters if name not in own]
    for option in options:
        if option not in known:
            raise unknown(f"{kind} option", option, known)
