"""`Registry`: everything of one kind that can be named, built-in things and a user's own.

@PARTITIONS.register("halves")
def halves(samples, clients, seed=0): ...

PARTITIONS.find("halves")                    by its name
PARTITIONS.find("my_package.deal:halves")    by module and attribute; the module is imported
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from inspect import Parameter, signature
from types import ModuleType
from typing import Generic, TypeVar

from ._messages import format_value, unknown

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

        Raises ValueError for a name that is taken.
        """

        def add(thing: S) -> S:
            for name in names:
                self._add(name, thing)
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
            raise ValueError(f"{unknown(self.kind, name, self._things)}, or package.module:Name")
        found = self._things[name] if name in self._things else self._imported(name)
        if not self._accepts(found):
            got = format_value(found)
            raise TypeError(f"{self.kind} {name}: expected {self.expected}; got {got}")
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

    def _add(self, name: str, thing: object) -> None:
        held = self._things.get(name)
        # A notebook's cell that is run again defines the same thing anew.
        if held is not None and _home(held) != _home(thing):
            raise ValueError(f"{self.kind} {name!r}: the name is taken by {format_value(held)}")
        self._things[name] = thing  # type: ignore[assignment]  # `accepts` is the check

    def _imported(self, name: str) -> object:
        path, _, attribute = name.partition(":")
        module = self._module(name, path)
        found: object = module
        for part in attribute.split("."):
            if not hasattr(found, part):
                names = [known for known in dir(found) if not known.startswith("_")]
                where = getattr(module, "__file__", None) or path
                raise unknown(f"{self.kind} {name}: {where}", part, names)
            found = getattr(found, part)
        return found

    def _module(self, name: str, path: str) -> ModuleType:
        form = "expected package.module:Name"
        if not all(part.isidentifier() for part in path.split(".")):
            raise ValueError(f"{self.kind}: {form}; got {name!r}")
        try:
            return import_module(path)
        # Whatever the user's module raises; `sys.exit` in it must not end the program.
        except (Exception, SystemExit) as error:
            what = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"{self.kind} {name}: cannot import the module {path!r} ({what}); {form}, of a "
                "module in the current directory or installed"
            ) from error


def class_registry(kind: str, base: Callable[[], type[S]]) -> Registry[type[S]]:
    """A registry of the subclasses of `base()`, which need not be defined yet."""

    def accepts(thing: object) -> bool:
        return isinstance(thing, type) and issubclass(thing, base())

    return Registry(kind, f"a subclass of fedfast's class for a {kind}", accepts)


def accepted(function: Callable[..., object], offered: Mapping[str, S]) -> dict[str, S]:
    """Those of the offered arguments that a function or class takes by name."""
    parameters = signature(function).parameters
    every = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
    return {name: value for name, value in offered.items() if every or name in parameters}


def _home(thing: object) -> tuple[str, str]:
    """Module and name of a class or function."""
    return getattr(thing, "__module__", ""), getattr(thing, "__qualname__", repr(thing))
