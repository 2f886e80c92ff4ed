"""Limits of a YAML file: depth, length and what aliases unfold to, checked before it is built.

A few lines can nest until Python's stack ends, hold themselves, or unfold to more values than
memory holds ("billion laughs"); none of these is a configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

LONGEST = 1 << 20  # bytes of a file
DEEPEST = 32  # levels of lists and mappings
MOST = 100_000  # values, aliases unfolded


def compose(text: str, loader: type[yaml.SafeLoader]) -> yaml.Node | None:
    """The nodes of `text`; yaml.MarkedYAMLError for what is too deep, too long or holds itself."""
    _depth(text, loader)
    node: yaml.Node | None = yaml.compose(text, loader)
    if node is not None:
        _Sizes().of(node)
    return node


def _refuse(problem: str, node: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _depth(text: str, loader: type[yaml.SafeLoader]) -> None:
    """Events come one by one and without recursion: the first that is too deep ends the reading."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, loader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _refuse(f"nested more than {DEEPEST} levels deep", event)
        if count > MOST:
            raise _refuse(f"more than {MOST:,} values", event)


class _Sizes:
    """How many values nodes unfold to; each node is counted once, however often it is named."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, int]] = {}  # (values, levels)
        self.open: set[int] = set()

    def of(self, node: yaml.Node) -> tuple[int, int]:
        """(values, levels) of `node`; an error for one that holds itself."""
        if id(node) in self.open:
            raise _refuse("holds itself (an alias of what it is part of)", node)
        if id(node) not in self.known:
            self.open.add(id(node))
            below = [self.of(child) for child in _children(node)]
            self.open.remove(id(node))
            values = 1 + sum(size for size, _ in below)
            levels = 1 + max((level for _, level in below), default=0)
            self._check(node, values, levels)
            self.known[id(node)] = values, levels
        return self.known[id(node)]

    def _check(self, node: yaml.Node, values: int, levels: int) -> None:
        if values > MOST:
            raise _refuse(f"aliases unfold to more than {MOST:,} values", node)
        if levels > DEEPEST + 1:
            raise _refuse(f"aliases unfold to more than {DEEPEST} levels", node)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
