"""What had another name before 0.2: the old one works for a release, with a DeprecationWarning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

MODULES = {
    "fedfast.annealing": "fedfast.lr_schedules",
    "fedfast.schedule": "fedfast.client_sampling",
    "fedfast.algorithms.pieces": "fedfast.algorithms.hooks",
}
_COMPONENTS = {
    "Piece": "fedfast.algorithms.hooks.Component",
    "Layout": "fedfast.algorithms.hooks.TrainedLayout",
    "Server": "fedfast.algorithms.hooks.ServerView",
}
# Module -> name -> what took its place.
NAMES = {
    "fedfast.algorithms": {
        **_COMPONENTS,
        "PAGES": "fedfast.algorithms.ALGORITHMS",
        "RULES": "fedfast.algorithms.SERVER_RULES",
        "SCHEDULES": "fedfast.lr_schedules.SCHEDULES",
        "Schedule": "fedfast.lr_schedules.Schedule",
    },
    "fedfast.algorithms.pieces": {
        **_COMPONENTS,
        "Table": "fedfast.algorithms.client_view.NamedRows",
    },
    "fedfast.config.schema": {"PARTITIONS": "fedfast.data.PARTITIONS"},
    "fedfast.data.readers": {"NAMES": "fedfast.data.READERS"},
    "fedfast.models.registry": {"NAMES": "fedfast.models.MODELS"},
    "fedfast.simulation": {"Callback": "fedfast.callbacks.Callback"},
}


def warn(old: str, new: str) -> None:
    """Warn whoever called the function that calls this one."""
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=3)


def names_of(module: str) -> Callable[[str], object]:
    """The `__getattr__` of a module that had these `NAMES`."""

    def find(name: str) -> object:
        if name not in NAMES[module]:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new = NAMES[module][name]
        warn(f"{module}.{name}", new)
        home, _, attribute = new.rpartition(".")
        return getattr(import_module(home), attribute)

    return find


def argument(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: the keyword `old` is taken for `new`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **given: P.kwargs) -> R:
            if old in given:
                warn(old, new)
                given[new] = given.pop(old)
            return function(*args, **given)

        return call

    return decorate


class Alias:
    """An attribute under its former name: `pieces = Alias("components")`."""

    def __init__(self, new: str) -> None:
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self.old = name

    def __get__(self, instance: object, owner: type) -> object:
        """The attribute; of the class itself, this."""
        if instance is None:
            return self
        warn(f"{owner.__name__}.{self.old}", self.new)
        return getattr(instance, self.new)


class RenamedModules(MetaPathFinder, Loader):
    """Finds a renamed module and fills it with the contents of the one that took its place."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        return ModuleSpec(name, self) if name in MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        """Copy the contents, and warn."""
        old = module.__name__
        warn(old, MODULES[old])
        found = vars(import_module(MODULES[old])).items()
        vars(module).update({name: value for name, value in found if not name.startswith("__")})
        if old in NAMES:
            vars(module)["__getattr__"] = names_of(old)


def install() -> None:
    """Let Python's import find renamed modules, after everything else."""
    sys.meta_path.append(RenamedModules())
