"""Short forms of a file and of flags, written out before anything is checked.

algorithm: fedsam                     algorithms: {fedsam: {name: fedsam}}
algorithm: {name: "mymod:Mine", mu: 1}    algorithms: {Mine: {name: "mymod:Mine", mu: 1}}
algorithms: {mine: "mymod:Mine"}      algorithms: {mine: {name: "mymod:Mine"}}
loss: "mymod:focal"                   loss: {name: "mymod:focal"}

--algorithm NAME     runs one algorithm: the file's with this label, or the one of this name
--algorithm.rho 0.1  --algorithms.LABEL.rho 0.1, where there is one label
--loss NAME          --loss.name NAME
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .yaml_reader import ConfigError, Where

Raw = dict[str, object]


def in_file(path: Path, raw: Raw, where: Where) -> tuple[Raw, Where]:
    """`raw` in full, and the lines of its keys. Raises ConfigError for what names no algorithm."""
    if isinstance(raw.get("loss"), str):
        raw = {**raw, "loss": {"name": raw["loss"]}}
    if "algorithm" in raw:
        raw, where = _algorithm(path, raw, where)
    given = raw.get("algorithms")
    if isinstance(given, dict):
        named = {k: {"name": v} if isinstance(v, str) else v for k, v in given.items()}
        raw = {**raw, "algorithms": named}
    return raw, where


def in_flags(raw: Raw, tokens: Sequence[str]) -> tuple[Raw, list[str]]:
    """The same for flags, of which `--algorithm NAME` changes the file itself."""
    made: list[str] = []
    rest = iter(tokens)
    for token in rest:
        flag, equals, text = token.partition("=")
        if flag == "--algorithm":
            name = text if equals else next(rest, "")
            raw = {**raw, "algorithms": _chosen(raw, name)}
        elif flag.startswith("--algorithm."):
            made.append(token.replace("--algorithm.", f"--algorithms.{_only(raw, flag)}.", 1))
        elif flag == "--loss":
            made.append(token.replace("--loss", "--loss.name", 1))
        else:
            made.append(token)
    return raw, made


def label_of(name: str) -> str:
    """The label of an algorithm that has only a name: the last part of it.

    >>> label_of("package.module:Mine"), label_of("fedlesam-s")
    ('Mine', 'fedlesam-s')
    """
    plain = re.sub(r"[^A-Za-z0-9_+-]", "", re.split("[:.]", name)[-1])
    return plain.lstrip("_+-") or "own"


def _algorithm(path: Path, raw: Raw, where: Where) -> tuple[Raw, Where]:
    place = f"{path}:{where[('algorithm',)]}: algorithm"
    if "algorithms" in raw:
        raise ConfigError(f"{place}: expected this or algorithms, found both")
    given = raw["algorithm"]
    section = {"name": given} if isinstance(given, str) else given
    if not isinstance(section, dict) or not isinstance(section.get("name"), str):
        form = "a name or a mapping with one ({name: fedsam, rho: 0.1})"
        raise ConfigError(f"{place}: expected {form}, found {given!r}")
    label = label_of(section["name"])
    lines = {
        ("algorithms", label, *at[1:]): line for at, line in where.items() if at[0] == "algorithm"
    }
    rest = {key: value for key, value in raw.items() if key != "algorithm"}
    return {**rest, "algorithms": {label: section}}, {**where, **lines}


def _chosen(raw: Raw, name: str) -> Raw:
    """The one algorithm to run: the file's of this label, or a new one of this name."""
    if not name or name.startswith("-"):
        raise ConfigError("--algorithm: expected a label of the file or the name of an algorithm")
    labels = _labels(raw)
    return {name: labels[name]} if name in labels else {label_of(name): {"name": name}}


def _only(raw: Raw, flag: str) -> str:
    labels = _labels(raw)
    if len(labels) == 1:
        return str(next(iter(labels)))
    rest = flag.removeprefix("--algorithm.")
    each = ", ".join(f"--algorithms.{label}.{rest}" for label in labels)
    raise ConfigError(f"{flag}: expected one algorithm in the file, found {len(labels)}; {each}")


def _labels(raw: Raw) -> Raw:
    given = raw.get("algorithms")
    return given if isinstance(given, dict) else {}
