"""Callbacks: functions f(sim, row), called after each round, and objects with more to follow.

    class Logger(Callback):
        def on_round_end(self, sim, row): ...

    @CALLBACKS.register("stdout")
    def stdout(sim, row): ...

    Simulation(..., callbacks=["stdout", Logger(), {"name": "early_stopping", "patience": 5}])

A name may also be "package.module:Name". A class that is named is made once for each simulation,
with the options beside its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._messages import check_options, format_value
from ..history import Row
from ..registry import Registry

if TYPE_CHECKING:
    Sim = Any  # the simulation, whose module imports this one


@dataclass(frozen=True)
class RunInfo:
    """Which run a callback follows.

    label   of the algorithm in its config; in Python its name
    folder  the run folder, None where there is none
    config  the resolved fields of its file; empty without one
    """

    label: str
    folder: Path | None = None
    config: Mapping[str, object] = field(default_factory=dict)


class Callback:
    """A base with methods that do nothing; any object with some of them is a callback.

    `sim.stop()` within any of them ends the run after the current round. What they raise ends it
    too, and undoes no round.
    """

    def on_start(self, sim: Sim, run: RunInfo) -> None:
        """`sim.run()` or a loop over it begins; `sim.history` holds the rounds done before."""

    def on_round_end(self, sim: Sim, row: Row) -> None:
        """A round is done."""

    def on_evaluate(self, sim: Sim, row: Row) -> None:
        """A round is done after which models were tested; follows `on_round_end`."""

    def on_save(self, sim: Sim) -> None:
        """The simulation is about to be saved: what is to go on with it is kept now."""

    def on_end(self, sim: Sim) -> None:
        """What `on_start` began is over, however: last round, `sim.stop()`, `break`, an error."""


Function = Callable[[Any, Row], object]
Given = Function | Callback
HOOKS = {"on_start": 2, "on_round_end": 2, "on_evaluate": 2, "on_save": 1, "on_end": 1}
CALLBACKS = Registry[Function | type[Callback]](
    "callback", "a function f(sim, row) or a class whose objects are called so", callable
)


def callback(given: str | Mapping[str, object] | Given) -> Given:
    """The callback itself, or the one with this name or at "package.module:Name".

    A mapping holds the name and the options its class is made with. Raises TypeError naming
    `callbacks` for what is none, ValueError for unknown names.
    """
    if isinstance(given, str | Mapping):
        name, options = named(given)
        found = find(name, options)
        given = found(**options) if isinstance(found, type) else found
    _check(given)
    return given


def named(given: str | Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """Name and options. Raises TypeError for a mapping without a name."""
    if isinstance(given, str):
        return given, {}
    options = {str(key): value for key, value in given.items()}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise TypeError(f"callbacks: expected a mapping with a name; got {format_value(given)}")
    return name, options


def find(name: str, options: Mapping[str, object] | None = None) -> Function | type[Callback]:
    """The function or class, which is not made here. Raises TypeError where it cannot be called."""
    found = CALLBACKS.find(name)
    if isinstance(found, type):
        check_options(f"callback {name}", found, options or ())
        _check_call(found, "classes that are made without arguments", **(options or {}))
        return found
    if options:
        raise TypeError(f"callbacks: options are for classes; {name} is a function, got {options}")
    _check(found)
    return found


def call(follower: Given, hook: str, *arguments: object) -> None:
    """One of the `HOOKS`, where the callback has it; a function is called after each round."""
    method = getattr(follower, hook, None)
    if method is None and hook == "on_round_end" and callable(follower):
        method = follower
    if method is not None:
        method(*arguments)


@contextmanager
def following(followers: Sequence[Given], sim: Sim, run: RunInfo) -> Iterator[None]:
    """`on_start` before the block and `on_end` after it, of each one that has started."""
    begun: list[Given] = []
    try:
        for follower in followers:
            begun.append(follower)
            call(follower, "on_start", sim, run)
        yield
    finally:
        with ExitStack() as ends:  # each is called, whatever another raises
            for follower in reversed(begun):
                ends.callback(call, follower, "on_end", sim)


def _check(given: object) -> None:
    """Whether it can be called as callbacks are, before round 1."""
    hooks = [] if isinstance(given, type) else [h for h in HOOKS if hasattr(given, h)]
    for hook in hooks:
        arguments = [None] * HOOKS[hook]
        _check_call(getattr(given, hook), f"{hook} with {len(arguments)} arguments", *arguments)
    if isinstance(given, type) and any(hasattr(given, hook) for hook in HOOKS):
        raise TypeError(f"callbacks: expected an object; got the class {format_value(given)}")
    if not hooks:
        expected = "callables f(sim, row)"
        if not callable(given):
            got = format_value(given)
            raise TypeError(
                f"callbacks: expected {expected} or objects with on_round_end; got {got}"
            )
        _check_call(given, expected, None, None)


def _check_call(
    function: Callable[..., object], expected: str, *arguments: object, **options: object
) -> None:
    try:
        signature(function).bind(*arguments, **options)
    except ValueError:  # a function of C, whose signature is not recorded
        return
    except TypeError as error:
        got = format_value(function)
        raise TypeError(f"callbacks: expected {expected}; got {got} ({error})") from None
