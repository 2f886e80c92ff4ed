"""Names of groups of runs: the label and, where that is not enough, the options that differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

Options = Mapping[str, object]
OWN = "algorithm."  # options of the algorithm itself: of no meaning to other labels


def display_names(runs: Sequence[tuple[str, Options]]) -> list[str]:
    """A name for each (label, options): `fedsam`, or `fedsam rho=0.05 alpha=0.1`; no two alike.

    Named are the options in which runs of one label differ: those of an algorithm with that label
    alone, all others (`alpha` of the partition) with every label. An option that only some of the
    runs have is named where it differs among them.
    """
    by_label: dict[str, list[Options]] = {}
    for label, options in runs:
        by_label.setdefault(label, []).append(options)
    own = {label: differing(of) for label, of in by_label.items()}
    shared = {key for keys in own.values() for key in keys if not key.startswith(OWN)}
    wanted = {label: shared.union(keys) for label, keys in own.items()}
    short = _short(sorted(set().union(*wanted.values())))
    names = []
    for label, options in runs:
        named = [f"{short[k]}={text(v)}" for k, v in options.items() if k in wanted[label]]
        names.append(" ".join([label, *named]))
    return _unique(names)


def differing(runs: Iterable[Options]) -> list[str]:
    """The options of which two of the runs have different values, in the order of the runs."""
    values: dict[str, set[str]] = {}
    for options in runs:
        for key, value in options.items():
            values.setdefault(key, set()).add(json.dumps(value, sort_keys=True, default=repr))
    return [key for key, found in values.items() if len(found) > 1]


def text(value: object) -> str:
    """A value in a name, without blanks: `0.1`, `null`, `64,64`, `cosine(start=0.1,rounds=300)`."""
    if isinstance(value, Mapping):
        inner = [f"{k}={text(v)}" for k, v in value.items() if k != "name"]
        return f"{value.get('name', '')}({','.join(inner)})"
    if isinstance(value, list | tuple):
        return ",".join(map(text, value)) or "[]"
    plain = value if isinstance(value, str) else json.dumps(value, default=str)
    return plain.replace(" ", "_")


def _short(keys: Sequence[str]) -> dict[str, str]:
    """`alpha` for `partition.alpha`, `model` for `model.name`; the whole name where two agree."""
    short = {key: key.removesuffix(".name").rpartition(".")[2] for key in keys}
    times = Counter(short.values())
    return {key: name if times[name] == 1 else key for key, name in short.items()}


def _unique(names: Sequence[str]) -> list[str]:
    """Runs that differ in having an option at all are told apart by a number."""
    times, seen = Counter(names), Counter[str]()
    made = []
    for name in names:
        seen[name] += 1
        made.append(f"{name} #{seen[name]}" if times[name] > 1 else name)
    return made
