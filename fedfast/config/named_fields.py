"""Fields whose values are names alone: found when the file is read, before any data is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

from .component_options import plain


def known_metric(name: str) -> str:
    """The name, once there is a metric of it. The import loads torch, which --help does without."""
    from ..metrics.accuracy import find

    with _refused("metric"):
        find(name)
    return name


def known_round_metrics(names: list[str]) -> list[str]:
    """The names, each by itself where several stand in one text: "cosine,drift"."""
    from ..metrics.agreement import round_metrics

    each = [name for text in names for name in text.split(",")]
    with _refused("metrics"):
        round_metrics(each)
    return each


def known_callbacks(
    given: list[str | dict[str, object]], info: ValidationInfo
) -> list[str | dict[str, object]]:
    """The names, or mappings of a name and options with every default filled in.

    info  of the fields before: the run's metrics, whose columns a callback may look at
    """
    from ..callbacks import callback, find
    from ..callbacks.best_so_far import OfColumn
    from ..metrics.agreement import round_metrics

    columns = [c for metric in round_metrics(info.data.get("metrics", ())) for c in metric.columns]
    with _refused("callback"):
        for one in given:
            made = find(one) if isinstance(one, str) else callback(one)
            if isinstance(made, OfColumn):
                made.check_column(columns)
    return [one if isinstance(one, str) else _filled(one) for one in given]


def _filled(given: dict[str, object]) -> dict[str, object]:
    from ..callbacks import CALLBACKS

    name = str(given["name"])
    options = signature(CALLBACKS.find(name)).parameters.values()
    default = {p.name: p.default for p in options if p.default is not p.empty}
    return {"name": name, **{k: v for k, v in default.items() if plain(v)}, **given}


@contextmanager
def _refused(kind: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        # The key says the kind.
        why = str(error).removeprefix(f"{kind}: ").removeprefix(f"{kind}s: ")
        raise PydanticCustomError("unknown_name", "{why}", {"why": why}) from None
