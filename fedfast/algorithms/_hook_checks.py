"""Which hooks a component has of its own, and errors for hooks that would never be called.

Every base (`Component`, `Optimizer`, `Drift`, `ServerRule`, `FineTune`, `Algorithm`) is a `Hooked`.
What its methods are when fedfast is imported is written down, so that a hook counts as replaced
however that was done: in a subclass or mixin, on the class afterwards, on one object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from inspect import Parameter, signature
from typing import TypeVar

CLOSE = 0.83  # of difflib: `after_steps` and `corect` are close, `correction` may be a helper

K = TypeVar("K")
V = TypeVar("V")

_written: dict[type, dict[str, object]] = {}  # class -> its attributes when it was made
_bases: list[type] = []  # classes that introduce hooks


class Hooked:
    """Checks the names of a subclass's methods when the class is made."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        _written[cls] = dict(vars(cls))
        check_names(cls)


def base(cls: type) -> type:
    """Decorator of a class whose public methods are hooks."""
    _bases.append(cls)
    return cls


def overrides(component: object, method: str, of: type) -> bool:
    """Whether a component has its own version of a method of `of`."""
    found = getattr(component, method)
    return getattr(found, "__func__", found) is not _original(of, method)


def _original(of: type, method: str) -> object:
    """The method of `of` as it was written, whatever was assigned to the class since."""
    for cls in of.__mro__:
        if method in _written.get(cls, {}):
            return _written[cls][method]
    return getattr(of, method)


def depth(component: object, method: str) -> int:
    """How far from the object a method is defined: -1 on itself, 0 in its class, ..."""
    if method in vars(component):
        return -1
    return next(i for i, cls in enumerate(type(component).__mro__) if method in vars(cls))


def foreign(component: object) -> bool:
    """Whether any of its code is not fedfast's."""
    if any(callable(value) for value in vars(component).values()):
        return True
    return bool(list(_foreign_classes(type(component)))) or any(
        _written[cls].get(name) is not value
        for cls in type(component).__mro__
        if cls in _written
        for name, value in vars(cls).items()
        if callable(value) and not name.startswith("_")
    )


def is_foreign(hook: object) -> bool:
    """Whether a hook is not as fedfast wrote it."""
    function = getattr(hook, "__func__", hook)
    return not any(
        function is vars_.get(getattr(function, "__name__", ""))
        for cls, vars_ in _written.items()
        if cls.__module__.split(".")[0] == "fedfast"
    )


def _foreign_classes(cls: type) -> Iterator[type]:
    for part in cls.__mro__:
        if part.__module__.split(".")[0] not in ("fedfast", "builtins", "typing", "abc"):
            yield part


def _hooks(cls: type) -> dict[str, object]:
    """Public methods and properties that the bases of `cls` introduce: name -> as written."""
    found: dict[str, object] = {}
    for part in reversed(cls.__mro__):
        if part in _bases:
            found |= {k: v for k, v in _written[part].items() if not k.startswith("_")}
    kinds = (property, cached_property)
    return {k: v for k, v in found.items() if callable(v) or isinstance(v, kinds)}


def _known(cls: type) -> set[str]:
    """Every public name that fedfast's classes give to `cls`."""
    ours = [part for part in cls.__mro__ if part.__module__.split(".")[0] == "fedfast"]
    return {name for part in ours for name in (*vars(part), *vars(part).get("__annotations__", {}))}


def check_names(cls: type) -> None:
    """Raise TypeError for a method that is never called though its name is close to a hook's."""
    for part in _foreign_classes(cls):
        fields = vars(part).get("__annotations__", {})
        for name, value in vars(part).items():
            if not name.startswith("_") and name not in fields:
                _check_name(cls, name, value)


def _check_name(cls: type, name: str, value: object) -> None:
    known = _known(cls)
    method = callable(value) or isinstance(value, (property, classmethod, staticmethod))
    if name in known or not (method or isinstance(value, (bool, tuple, dict, str))):
        return
    hooks = sorted(k for k in known if not k.startswith("_"))
    plain = {k.replace("_", ""): k for k in hooks}
    near = get_close_matches(name.replace("_", "").lower(), plain, n=1, cutoff=CLOSE)
    if near:
        hint = f"did you mean {plain[near[0]]!r}? A helper needs another name, or a leading '_'"
        raise TypeError(f"{cls.__name__}.{name}: no hook has this name and none calls it; {hint}")
    homes = [part.__name__ for part in _bases if name in _hooks(part)]
    if method and homes:
        raise TypeError(
            f"{cls.__name__}.{name}: expected on a subclass of {homes[0]}, whose hook it is; "
            "got it on a class where nothing calls it"
        )


def check_hooks(component: object) -> None:
    """Raise TypeError for hooks of `component` that cannot be called as they will be."""
    check_names(type(component))
    for name, value in _hooks(type(component)).items():
        if isinstance(value, (property, cached_property)):
            _check_trait(component, name)
        else:
            assert callable(value)
            _check_call(component, name, value)
    for name, value in _traits(type(component)).items():
        found = getattr(component, name)
        if callable(found) or isinstance(found, str) is not isinstance(value, str):
            what = type(value).__name__
            raise TypeError(f"{type(component).__name__}.{name}: expected a {what}; got {found!r}")


def _traits(cls: type) -> dict[str, object]:
    """The class attributes that describe a component: name -> default, but for None."""
    found: dict[str, object] = {}
    for part in _bases:
        if issubclass(cls, part):
            found |= {
                k: v
                for k, v in _written[part].items()
                if isinstance(v, (bool, tuple, str)) and not k.startswith("_")
            }
    return found


def _check_trait(component: object, name: str) -> None:
    if callable(getattr(component, name)):
        raise TypeError(
            f"{type(component).__name__}.{name}: expected a value or a property; got a method"
        )


def _check_call(component: object, name: str, value: Callable[..., object]) -> None:
    found = getattr(component, name)
    label = f"{type(component).__name__}.{name}"
    if not callable(found):
        raise TypeError(f"{label}: expected a method; got {found!r}")
    if getattr(found, "__func__", None) is value:
        return
    parameters = list(signature(value).parameters.values())[1:]
    positional = [p.name for p in parameters if p.kind is not Parameter.VAR_KEYWORD]
    try:
        signature(found).bind(*positional)
    except TypeError:
        raise TypeError(
            f"{label}: expected the arguments ({', '.join(positional)}); got {signature(found)}"
        ) from None
    except ValueError:  # a callable without a signature
        return


def returned(owner: object, hook: str, value: object, kind: type[K], expected: str) -> K:
    """`value` if it is of `kind`. Raises TypeError naming the class and its hook."""
    if isinstance(value, kind):
        return value
    raise wrong_return(owner, hook, value, expected)


def named(owner: object, hook: str, value: Mapping[str, V] | None) -> Mapping[str, V]:
    """A hook's mapping by name; None, a forgotten return, is an empty one."""
    found = {} if value is None else value
    if not isinstance(found, Mapping):
        raise wrong_return(owner, hook, value, "a mapping by name")
    return found


def wrong_return(owner: object, hook: str, value: object, expected: str) -> TypeError:
    """The error to raise for what a hook returned."""
    return TypeError(f"{type(owner).__name__}.{hook}: expected {expected}; got {value!r:.200}")
