"""Which group others are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._messages import unknown
from .samples import Group

DEFAULT_BASELINE = "fedavg"


def baseline_of(blocks: Mapping[str, Sequence[Group]], name: str | None) -> dict[str, Group | None]:
    """Block -> its baseline: the group of that name, or of that label where a block has only one.

    Without a name FedAvg, or the first group where there is none. Raises ValueError for a name that
    is none, or a label that is not enough.
    """
    if name is None:
        return {key: _default(of) for key, of in blocks.items()}
    groups = [group for of in blocks.values() for group in of]
    label = next((group.label for group in groups if group.name == name), name)
    if label not in {group.label for group in groups}:
        raise unknown("baseline", name, {n for group in groups for n in (group.name, group.label)})
    return {key: _named(of, name, label) for key, of in blocks.items()}


def _default(groups: Sequence[Group]) -> Group:
    return next((g for g in groups if g.label.lower() == DEFAULT_BASELINE), groups[0])


def _named(groups: Sequence[Group], name: str, label: str) -> Group | None:
    exact = [group for group in groups if group.name == name]
    found = exact or [group for group in groups if group.label == label]
    if len(found) > 1:
        names = ", ".join(repr(group.name) for group in found)
        raise ValueError(f"baseline: expected one group, found several: {names}")
    return found[0] if found else None
