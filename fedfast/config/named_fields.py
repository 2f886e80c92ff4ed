"""Fields whose values are names alone: found when the file is read, before any data is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic_core import PydanticCustomError


def known_metric(name: str) -> str:
    """The name, once there is a metric of it. The import loads torch, which --help does without."""
    from ..metrics import find

    with _refused("metric"):
        find(name)
    return name


def known_callbacks(names: list[str]) -> list[str]:
    """The names, once there is a callback of each that can be called."""
    from ..callbacks import find

    with _refused("callback"):
        for name in names:
            find(name)
    return names


@contextmanager
def _refused(kind: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        # The key says the kind.
        why = str(error).removeprefix(f"{kind}: ").removeprefix(f"{kind}s: ")
        raise PydanticCustomError("unknown_name", "{why}", {"why": why}) from None
