"""Reads YAML strictly: keys know their lines, duplicates are refused, `1e-3` is a number."""

import re
from pathlib import Path
from typing import Any

import yaml

from .. import example_files
from . import yaml_limits

LARGEST = 1000  # bits of an integer: a float can hold it
Where = dict[tuple[str, ...], int]


class ConfigError(ValueError):
    """What is wrong with a configuration, in a message made to be read by its author."""


class _Loader(yaml.SafeLoader):
    """SafeLoader whose floats follow YAML 1.2: PyYAML reads `1e-3` as a string."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        """The value of a node; a date or number that Python has not is an error with its place."""
        try:
            made = super().construct_object(node, deep)
        except (ValueError, OverflowError, LookupError, TypeError) as error:
            why = f"a value cannot be read: {error}"
        else:
            if not isinstance(made, int) or made.bit_length() <= LARGEST:
                return made
            why = f"a value cannot be read: an integer of {made.bit_length()} bits"
        raise yaml.constructor.ConstructorError(problem=why, problem_mark=node.start_mark)


_FLOAT = re.compile(
    r"^[-+]?(\d[\d_]*\.[\d_]*([eE][-+]?\d+)?|\.\d[\d_]*([eE][-+]?\d+)?"
    r"|\d[\d_]*[eE][-+]?\d+|\.(inf|Inf|INF))$|^\.(nan|NaN|NAN)$"
)
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:float"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def value(text: str) -> object:
    """One value as the file would read it: `0.1`, `null`, `[64, 64]`, `mlp`."""
    try:
        yaml_limits.compose(text, _Loader)
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text  # what YAML cannot read is text; the field's own check decides


def read(path: Path) -> tuple[dict[str, object], Where]:
    """The mapping in the file, and the line of each of its keys."""
    text = _text(path)
    try:
        node = yaml_limits.compose(text, _Loader)
        where: Where = {}
        _walk(node, (), where, path)
        raw = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(_syntax(path, error)) from error
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else type(raw).__name__
        raise ConfigError(f"{path}: expected a mapping of fields (rounds: 10), found {found}")
    return raw, where


def _text(path: Path) -> str:
    """The whole file, which is short; a longer one (or one without an end) is not read on."""
    try:
        with path.open("rb") as file:
            raw = file.read(yaml_limits.LONGEST + 1)
    except OSError as error:
        near = example_files.nearest(path) if isinstance(error, FileNotFoundError) else ""
        hint = f"; did you mean the example {near!r}?" if near else ""
        raise ConfigError(f"{path}: cannot be read: {error.strerror}{hint}") from error
    if len(raw) > yaml_limits.LONGEST:
        raise ConfigError(f"{path}: expected at most {yaml_limits.LONGEST:,} bytes; found more")
    try:
        return raw.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error


def _walk(node: yaml.Node | None, above: tuple[str, ...], where: Where, path: Path) -> None:
    if isinstance(node, yaml.SequenceNode):
        for i, below in enumerate(node.value):
            _walk(below, (*above, str(i)), where, path)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, below in node.value:
        here = (*above, _key(key, path))
        line = key.start_mark.line + 1
        if here in where:
            raise ConfigError(
                f"{path}:{line}: {'.'.join(here)}: given twice (first on line {where[here]})"
            )
        where[here] = line
        _walk(below, here, where, path)


def _key(key: yaml.Node, path: Path) -> str:
    if not isinstance(key, yaml.ScalarNode):
        line = key.start_mark.line + 1
        raise ConfigError(f"{path}:{line}: expected a name as key; found a list or a mapping")
    return str(key.value)


def _syntax(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "not readable"
    place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else f"{path}"
    return f"{place}: YAML syntax: {problem}"


class Dumper(yaml.SafeDumper):
    """Agrees with the reader on what is a number; short mappings and lists on one line."""

    def represent_mapping(
        self, tag: str, mapping: Any, flow_style: bool | None = None
    ) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        plain = all(isinstance(value, yaml.ScalarNode) for _, value in node.value)
        node.flow_style = plain and 0 < len(node.value) <= 6
        return node

    def represent_sequence(
        self, tag: str, sequence: Any, flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, True)


Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
