"""Callbacks: what is called as f(sim, row) after each round; a user's own by name.

    @CALLBACKS.register("stdout")
    def stdout(sim, row): ...

    Simulation(..., callbacks=["stdout", "my_package.logs:Logger", print])

A class is called without arguments, once for each simulation, and its object is the callback.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from ._messages import format_value
from .history import Row
from .registry import Registry

# Any: the simulation, whose module imports this one.
Callback = Callable[[Any, Row], object]
CALLBACKS = Registry[Callback | type[Callback]](
    "callback", "a function f(sim, row) or a class whose objects are called so", callable
)


def callback(given: str | Callback) -> Callback:
    """The callback itself, or the one with this name or at "package.module:Name".

    Raises TypeError naming `callbacks` for what cannot be called as f(sim, row).
    """
    found = find(given) if isinstance(given, str) else given
    made = found() if isinstance(given, str) and isinstance(found, type) else found
    _check_call(made, "callables f(sim, row)", None, None)
    return made


def find(name: str) -> Callback | type[Callback]:
    """The function or class, which is not made here. Raises TypeError where it cannot be called."""
    found = CALLBACKS.find(name)
    if isinstance(found, type):
        _check_call(found, "classes that are made without arguments")
    else:
        _check_call(found, "callables f(sim, row)", None, None)
    return found


def _check_call(function: Callable[..., object], expected: str, *arguments: object) -> None:
    try:
        signature(function).bind(*arguments)
    except ValueError:  # a function of C, whose signature is not recorded
        return
    except TypeError as error:
        got = format_value(function)
        raise TypeError(f"callbacks: expected {expected}; got {got} ({error})") from None
