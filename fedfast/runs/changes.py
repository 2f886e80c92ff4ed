"""Options of a run that are changed while it goes on: those that may be, and the others by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import checkpoint
from ..config import RunConfig
from ..history import History
from ..precisions import alike

# What no bit of a round depends on. Of a simulation's options, those that a saved one leaves free.
FREE = checkpoint.FREE | {"out", "paper", "sweep", "loggers", "data.root"}
FREE |= {"save_rounds", "save_seconds"}


def check(path: Path, old: RunConfig, new: RunConfig, done: Mapping[str, History]) -> None:
    """Raises ValueError, a line per changed option that may not be, or fewer rounds than done."""
    lines = [
        f"{path}: holds a run {how} algorithm {label}"
        for one, other, how in ((old, new, "with the"), (new, old, "without the"))
        for label in one.algorithms
        if label not in other.algorithms
    ]
    before, after = (_flat(_of_both(config, old, new)) for config in (old, new))
    if alike(old.precision, new.precision):
        del before["precision"], after["precision"]
    lines += [
        f"{path}: holds a run with {name} {before.get(name, 'not set')}, "
        f"not {after.get(name, 'not set')}"
        for name in dict.fromkeys([*after, *before])
        if not _free(name) and before.get(name) != after.get(name)
    ]
    if lines:
        lines.append(f"a run goes on with other {', '.join(sorted(FREE - {'paper'}))} only")
    for label, history in done.items():
        if len(history) > new.rounds:
            lines.append(
                f"{path}: rounds: {len(history)} are done in {label}; expected at least as many, "
                f"got {new.rounds}"
            )
    if lines:
        raise ValueError("\n".join(lines))


def _of_both(config: RunConfig, old: RunConfig, new: RunConfig) -> dict[str, object]:
    """The values of a config, without the algorithms that only one of the two has."""
    only = set(old.algorithms) ^ set(new.algorithms)
    return config.model_dump(exclude={"algorithms": only})


def _free(name: str) -> bool:
    return name in FREE or name.split(".")[0] in FREE


def _flat(values: Mapping[str, object], above: str = "") -> dict[str, object]:
    """ "partition.alpha" -> value"""
    made: dict[str, object] = {}
    for key, value in values.items():
        name = f"{above}{key}"
        made |= _flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return made
