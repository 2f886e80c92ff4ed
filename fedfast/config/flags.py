"""`--partition.alpha 0.1`: one flag per field of the file, read by tyro, checked by the schema.

The flags are made from the file at hand, so that `--help` shows its values and an algorithm's label
is part of a flag's name. A flag's text means what the same text would mean in the file.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro
import yaml
from tyro.constructors import PrimitiveConstructorSpec

from . import fields, short_forms
from .errors import unknown
from .fields import Leaf, Loc
from .yaml_reader import ConfigError, value

Attribute = tuple[str, object, object]  # name, annotation, field: what `make_dataclass` takes


def apply(
    path: Path, raw: dict[str, object], tokens: Sequence[str]
) -> tuple[dict[str, object], dict[Loc, str]]:
    """`raw` with the flags' values in place, and the fields that flags gave, as they were spelt."""
    if not tokens:  # reading docstrings for a help that nobody asked for takes half a second
        return fields.expand(raw), {}
    raw, tokens = short_forms.in_flags(raw, tokens)
    raw = fields.expand(_rename(raw, tokens))
    leaves = fields.leaves(raw)
    given = {_match(token, leaves, raw): token for token in tokens if token.startswith("--")}
    given.pop(("help",), None)
    parsed: object = tyro.cli(
        _section(leaves, (), raw),
        prog=f"fedfast run {path}",
        description="Every field of the file is a flag; its value here goes before the file's.",
        args=list(tokens),
        use_underscores=True,
        # Flags say what they mean themselves: reading source code for more takes a quarter second.
        config=(tyro.conf.HelptextFromCommentsOff,),
    )
    for loc in given:
        raw = _set(raw, loc, _get(parsed, leaves, loc))
    return raw, {loc: token.split("=")[0] for loc, token in given.items()}


def _rename(raw: dict[str, object], tokens: Sequence[str]) -> dict[str, object]:
    """A new `name` begins its section anew: only what both kinds know stays."""
    for at, token in enumerate(tokens):
        flag, equals, text = token.partition("=")
        loc = tuple(flag.removeprefix("--").split("."))
        if loc[-1] != "name" or len(loc) == 1:
            continue
        name = text if equals else next(iter(tokens[at + 1 :]), "")
        old = fields.at(raw, loc[:-1])
        if isinstance(old, dict) and old.get("name", loc[-2]) != name:
            shared = {k: v for k, v in old.items() if k in fields.kept(loc[0], name)}
            raw = _set(raw, loc[:-1], {"name": name, **shared})
    return raw


def _match(token: str, leaves: list[Leaf], raw: dict[str, object]) -> Loc:
    """The field a flag means; `-` and `_` are the same in a flag."""
    name = token[2:].split("=")[0]
    if name == "help":
        return ("help",)
    for leaf in leaves:
        if _plain(".".join(leaf.loc)) == _plain(name):
            return leaf.loc
    loc = tuple(name.split("."))
    if len(loc) > 1 and fields.is_open(loc[:-1], raw) and loc[-1].isidentifier():
        leaves.append(Leaf(loc, "VALUE", "", None))  # the model or algorithm will check it
        return loc
    below = [".".join(leaf.loc) for leaf in leaves if leaf.loc[: len(loc)] == loc]
    if below:
        raise ConfigError(f"--{name}: is a section; give one of its fields: --{', --'.join(below)}")
    raise ConfigError(_unknown(loc, leaves))


def field(name: str, raw: dict[str, object]) -> Leaf:
    """The field that `name` means, as in a flag. Raises ConfigError with the nearest one."""
    leaves = fields.leaves(raw)
    _, (flag,) = short_forms.in_flags(raw, [f"--{name}"])
    loc = _match(flag, leaves, raw)
    return next(leaf for leaf in leaves if leaf.loc == loc)


def assign(raw: dict[str, object], values: Mapping[Loc, object]) -> dict[str, object]:
    """`raw` with these values in place, where a new `name` begins its section anew as in flags."""
    names = [f"--{'.'.join(loc)}={new}" for loc, new in values.items() if loc[-1] == "name"]
    raw = fields.expand(_rename(raw, names))
    for loc, new in values.items():
        raw = _set(raw, loc, new)
    return raw


def _unknown(loc: Loc, leaves: list[Leaf]) -> str:
    """Names the first part of `loc` that nothing has, and what there is in its place."""
    depth = 0
    while any(leaf.loc[: depth + 1] == loc[: depth + 1] for leaf in leaves):
        depth += 1
    if any(leaf.loc == loc[:depth] for leaf in leaves):
        return f"--{'.'.join(loc[:depth])}: is a value, not a section; found --{'.'.join(loc)}"
    here = dict.fromkeys(leaf.loc[depth] for leaf in leaves if leaf.loc[:depth] == loc[:depth])
    return f"--{'.'.join(loc[: depth + 1])}: {unknown(loc[depth], here)}"


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _section(leaves: list[Leaf], above: Loc, raw: dict[str, object]) -> type:
    """A dataclass type for tyro: one attribute per field or section directly below `above`."""
    depth = len(above)
    names = dict.fromkeys(leaf.loc[depth] for leaf in leaves if leaf.loc[:depth] == above)
    made: list[Attribute] = []
    for i, name in enumerate(names):
        leaf = next((leaf for leaf in leaves if leaf.loc == (*above, name)), None)
        if leaf is None:
            made.append(_part(f"f{i}", name, _section(leaves, (*above, name), raw)))
        else:
            made.append(_attribute(f"f{i}", leaf))
    made_type = dataclasses.make_dataclass(".".join(above) or "run", made)
    made_type.__doc__ = fields.title(above, raw)
    return made_type


def _part(attribute: str, name: str, below: type) -> Attribute:
    return (
        attribute,
        Annotated[below, tyro.conf.arg(name=name)],
        dataclasses.field(default_factory=below),
    )


def _attribute(attribute: str, leaf: Leaf) -> Attribute:
    many = isinstance(leaf.default, list)
    one = _text if leaf.metavar.startswith("STR") else value
    spec: PrimitiveConstructorSpec[object] = PrimitiveConstructorSpec(
        nargs="*" if many else 1,
        metavar=f"[{leaf.metavar} ...]" if many else leaf.metavar,
        instance_from_str=_many if many else lambda texts: one(texts[0]),
        is_instance=lambda _: True,
        str_from_instance=lambda v: [_show(x) for x in v] if isinstance(v, list) else [_show(v)],
    )
    needed = "(needed)" if isinstance(leaf.default, fields.Needed) else None
    about = tyro.conf.arg(name=leaf.loc[-1], help=leaf.help, help_behavior_hint=needed)
    return attribute, Annotated[object, spec, about], dataclasses.field(default_factory=leaf.copy)


def _text(text: str) -> str | None:
    """Where a text is wanted `--out 2024` is one, though a file would need quotes."""
    return None if text == "null" else text


def _many(texts: Sequence[str]) -> list[object]:
    """`64 64` and `[64,64]` are the same list."""
    if len(texts) == 1 and isinstance(whole := value(texts[0]), list):
        return whole
    return [value(text) for text in texts]


def _show(found: object) -> str:
    if isinstance(found, fields.Needed):
        return ""
    return yaml.safe_dump(found, default_flow_style=True, width=10**6).split("\n")[0].strip()


def _set(raw: dict[str, object], loc: Loc, new: object) -> dict[str, object]:
    """A copy of `raw` with `new` at `loc`."""
    below = raw.get(loc[0])
    if len(loc) > 1:
        new = _set(below if isinstance(below, dict) else {}, loc[1:], new)
    return {**raw, loc[0]: new}


def _get(parsed: object, leaves: list[Leaf], loc: Loc) -> object:
    """Walks tyro's answer, whose attributes are numbered in the order of the leaves."""
    for depth, name in enumerate(loc):
        above = loc[:depth]
        names = dict.fromkeys(leaf.loc[depth] for leaf in leaves if leaf.loc[:depth] == above)
        parsed = getattr(parsed, f"f{list(names).index(name)}")
    return parsed
