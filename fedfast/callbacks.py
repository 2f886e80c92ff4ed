"""Callbacks: what is called as f(sim, row) after each round; a user's own by name.

    @CALLBACKS.register("stdout")
    def stdout(sim, row): ...

    Simulation(..., callbacks=["stdout", "my_package.logs:Logger", print])

A class is called without arguments, once for each simulation, and its object is the callback.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .history import Row
from .registry import Registry

# Any: the simulation, whose module imports this one.
Callback = Callable[[Any, Row], object]
CALLBACKS = Registry[Callback | type[Callback]](
    "callback", "a function f(sim, row) or a class whose objects are called so", callable
)


def callback(given: str | Callback) -> Callback:
    """The callback itself, or the one with this name or at "package.module:Name"."""
    if not isinstance(given, str):
        return given
    found = CALLBACKS.find(given)
    return found() if isinstance(found, type) else found
