"""Modules under the names they had before 0.2: importing one works, with a DeprecationWarning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

RENAMED = {
    "fedfast.annealing": "fedfast.lr_schedules",
    "fedfast.schedule": "fedfast.client_sampling",
    "fedfast.algorithms.pieces": "fedfast.algorithms.hooks",
}


class RenamedModules(MetaPathFinder, Loader):
    """Finds a renamed module and fills it with the contents of the one that took its place."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        return ModuleSpec(name, self) if name in RENAMED else None

    def exec_module(self, module: ModuleType) -> None:
        """Copy the contents, and warn."""
        new = RENAMED[module.__name__]
        warnings.warn(f"{module.__name__} is now {new}", DeprecationWarning, stacklevel=2)
        found = vars(import_module(new)).items()
        vars(module).update({name: value for name, value in found if not name.startswith("__")})


def install() -> None:
    """Let Python's import find renamed modules, after everything else."""
    sys.meta_path.append(RenamedModules())
