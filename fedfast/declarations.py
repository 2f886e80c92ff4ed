"""Options declared as annotated fields of a dataclass, read back: type, default, check, help.

    rounds: Annotated[int, Count(), "communication rounds", "as many as `run` makes"] = 100

The first text is the help of the command line, further ones are for users of Python only; a
callable is the check, which a plain `int` or `bool` has anyway.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from textwrap import fill
from types import NoneType
from typing import Any, Concatenate, ForwardRef, ParamSpec, TypeVar, get_args

from .validation.values import OneOf, boolean, integer

Check = Callable[[str, Any], None]
CHECKS: Mapping[object, Check] = {int: integer, bool: boolean}

P = ParamSpec("P")
Owner = TypeVar("Owner")
Options = TypeVar("Options")


@dataclass(frozen=True)
class Declaration:
    """One option.

    type      without what is annotated, None left out
    optional  whether None is a value
    default   MISSING where there is none
    """

    name: str
    annotation: object
    type: object
    optional: bool
    default: object
    check: Check | None
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        """What its users in Python read: all texts, and the names to choose from."""
        names = self.check.names if isinstance(self.check, OneOf) else ()
        return "; ".join([*self.texts, *([", ".join(map(repr, names))] if names else [])])


@cache
def declarations(options: type) -> tuple[Declaration, ...]:
    """The options of a dataclass, in the order in which its constructor takes them."""
    own = sorted(fields(options), key=lambda f: bool(f.kw_only))
    return tuple(_declaration(f.name, f.type, f.default) for f in own)


def _declaration(name: str, hint: object, default: object) -> Declaration:
    annotation, *extras = get_args(hint)
    if isinstance(annotation, ForwardRef):  # written in quotes
        annotation = annotation.__forward_arg__
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    optional = len(kinds) < len(get_args(annotation)) or str(annotation).endswith(" | None")
    kind = kinds[0] if optional and len(kinds) == 1 else annotation
    checks = [extra for extra in extras if not isinstance(extra, str)]
    texts = tuple(extra for extra in extras if isinstance(extra, str))
    check = checks[0] if checks else CHECKS.get(kind)
    return Declaration(name, annotation, kind, optional, default, check, texts)


def check_all(options: object, declared: Iterable[Declaration]) -> None:
    """Raise TypeError or ValueError naming the first option whose value is not a declared one."""
    for option in declared:
        value = getattr(options, option.name)
        if option.check is not None and not (option.optional and value is None):
            option.check(option.name, value)


def documentation(options: type) -> str:
    """The options as our docstrings list them: a column of names, a column of texts."""
    found = declarations(options)
    width = 4 + max(len(option.name) for option in found) + 2
    lines = [
        fill(
            option.text,
            width=100,
            initial_indent=f"    {option.name}".ljust(width),
            subsequent_indent=" " * width,
            break_on_hyphens=False,
        )
        for option in found
    ]
    return "\n".join(lines)


def takes(
    options: Callable[P, Options],
) -> Callable[[Callable[[Owner, Options], None]], Callable[Concatenate[Owner, P], None]]:
    """Make `__init__(self, options)` take the arguments of `options`, a dataclass of declarations.

    A ParamSpec carries the fields to type checkers, `__signature__` to `help` and `inspect`: so
    the dataclass is the only list of the arguments.
    """

    def wrap(init: Callable[[Owner, Options], None]) -> Callable[Concatenate[Owner, P], None]:
        signature = _signature(options)

        def __init__(self: Owner, *args: P.args, **kwargs: P.kwargs) -> None:
            _check_arguments(type(self).__name__, signature, args, kwargs)
            init(self, options(*args, **kwargs))

        __init__.__qualname__ = init.__qualname__
        __init__.__signature__ = signature  # type: ignore[attr-defined]
        return __init__

    return wrap


def _check_arguments(
    owner: str, signature: inspect.Signature, args: Iterable[object], kwargs: Mapping[str, object]
) -> None:
    """Raise TypeError naming the class `owner`, and the option nearest to an unknown one."""
    for name in [name for name in kwargs if name not in signature.parameters]:
        nearest = get_close_matches(name, signature.parameters, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise TypeError(f"{owner}() got an unexpected keyword argument {name!r}{hint}")
    try:
        signature.bind(owner, *args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{owner}() {error}") from None


def _signature(options: Callable[..., object]) -> inspect.Signature:
    """The signature of `__init__`, its annotations without checks and texts."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert isinstance(options, type)
    plain = {option.name: option.annotation for option in declarations(options)}
    given = inspect.signature(options).parameters.values()
    return inspect.Signature([own, *(p.replace(annotation=plain[p.name]) for p in given)])
