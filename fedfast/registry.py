"""`Registry`: everything of one kind that can be named, built-in things and a user's own.

@PARTITIONS.register("halves")
def halves(samples, clients, seed=0): ...

PARTITIONS.find("halves")                    by its name
PARTITIONS.find("my_package.deal:halves")    by module and attribute; the module is imported
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter, signature
from typing import Generic, TypeVar

from ._messages import format_value, unknown
from .own_modules import imported

T = TypeVar("T", covariant=True)
S = TypeVar("S")


class Registry(Mapping[str, T], Generic[T]):
    """name -> thing, in the order of the names.

    kind      what errors call a thing: "partition"
    expected  what a thing must be: "a function (samples, **options) -> FederatedData"
    accepts   whether an object is one
    """

    def __init__(self, kind: str, expected: str, accepts: Callable[[object], bool]) -> None:
        self.kind, self.expected = kind, expected
        self._accepts = accepts
        self._things: dict[str, T] = {}

    def register(self, *names: str) -> Callable[[S], S]:
        """Decorator: the thing is found by these names; a class without a `name` gets the first.

        Raises ValueError for a name that is taken or could not be found, TypeError for what is no
        name and for a thing of another kind.
        """
        self._check_names(names)

        def add(thing: S) -> S:
            self._check_new(names, thing)
            self._things.update(dict.fromkeys(names, thing))  # type: ignore[arg-type]  # checked
            if isinstance(thing, type) and hasattr(thing, "name") and "name" not in vars(thing):
                type.__setattr__(thing, "name", names[0])
            return thing

        return add

    def find(self, name: object) -> T:
        """The thing called `name`, or what `package.module:Name` holds.

        Raises ValueError for an unknown name (with the nearest known one) and for a module that
        cannot be imported, TypeError for an object of another kind.
        """
        if not isinstance(name, str) or (name not in self._things and ":" not in name):
            if not self._things:
                got = format_value(name)
                raise ValueError(f"{self.kind}: unknown name {got}; expected package.module:Name")
            raise ValueError(f"{unknown(self.kind, name, self._things)}, or package.module:Name")
        known = name in self._things
        found = self._things[name] if known else imported(self.kind, name, self._accepts)
        self._check_kind(name, found)
        return found  # type: ignore[return-value]  # `accepts` is the check

    def name_of(self, thing: object) -> str:
        """A name that `find` finds the thing by: its own, or `package.module:Name`."""
        names = (name for name, held in self._things.items() if held is thing)
        return next(names, ":".join(_home(thing)))

    def __getitem__(self, name: str) -> T:
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._things))

    def __len__(self) -> int:
        return len(self._things)

    def _check_names(self, names: tuple[object, ...]) -> None:
        form = f'{self.kind}: expected names, as in @register("name")'
        if not names:
            raise TypeError(f"{form}; got none")
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"{form}; got {format_value(name)}")
            if not name or name != name.strip() or ":" in name:  # ":" parts module and Name
                raise ValueError(f"{form}, without a colon; got {format_value(name)}")

    def _check_new(self, names: tuple[str, ...], thing: object) -> None:
        for name in names:
            self._check_kind(name, thing)
            held = self._things.get(name)
            if held is not None and not _same(held, thing):
                raise ValueError(f"{self.kind} {name!r}: the name is taken by {format_value(held)}")

    def _check_kind(self, name: str, thing: object) -> None:
        if not self._accepts(thing):
            got = format_value(thing)
            raise TypeError(f"{self.kind} {name}: expected {self.expected}; got {got}")


def class_registry(kind: str, name: str, base: Callable[[], type[S]]) -> Registry[type[S]]:
    """A registry of the subclasses of `base()`, called `name`, which need not be defined yet."""

    def accepts(thing: object) -> bool:
        try:
            return isinstance(thing, type) and issubclass(thing, base())
        except NameError:  # the base itself, which its decorators see before its name is defined
            return True

    return Registry(kind, f"a subclass of fedfast.algorithms.{name}", accepts)


def accepted(function: Callable[..., object], offered: Mapping[str, S]) -> dict[str, S]:
    """Those of the offered arguments that a function or class takes by name."""
    parameters = signature(function).parameters
    every = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
    return {name: value for name, value in offered.items() if every or name in parameters}


def _same(held: object, new: object) -> bool:
    """Whether `new` is `held`, or defined anew as by a notebook's cell that is run again.

    Lambdas and functions of one function share a name, and may differ.
    """
    home = _home(new)
    return held is new or (_home(held) == home and "<" not in home[1])


def _home(thing: object) -> tuple[str, str]:
    """Module and name of a class or function."""
    return getattr(thing, "__module__", ""), getattr(thing, "__qualname__", repr(thing))
