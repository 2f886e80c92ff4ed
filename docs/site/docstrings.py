"""What the API reference makes of docstrings: their lists of names, and those made at run time."""

from __future__ import annotations

import importlib
import inspect
import re

from griffe import Docstring, Extension, Object

OUTSIDE = re.compile(r"\[(?=(?:[^`]*`[^`]*`)*[^`]*$)")  # a bracket that is in no `code`
ENTRY = re.compile(r"^(\w[\w, .*]{0,30}?) {2,}(\S.*)$")


class Docstrings(Extension):
    """`name  meaning` lines become list items; `Simulation`'s docstring is read from the class."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.path == "fedfast.simulation.Simulation":
            obj.docstring = Docstring(_at_run_time(obj.path))
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def _at_run_time(path: str) -> str:
    module, name = path.rsplit(".", 1)
    return inspect.getdoc(getattr(importlib.import_module(module), name)) or ""


def markdown(text: str) -> str:
    """Lists of names as Markdown lists, paragraphs as they are.

    >>> print(markdown("Sum.\\n\\na  the first\\n   number\\nb  another\\nRaises ValueError."))
    Sum.
    <BLANKLINE>
    <BLANKLINE>
    - `a`: the first number
    - `b`: another
    <BLANKLINE>
    Raises ValueError.
    """
    made: list[str] = []
    inside = False
    for line in OUTSIDE.sub(r"\\[", inspect.cleandoc(text)).splitlines():
        entry = ENTRY.match(line)
        if entry:
            made += ([] if inside else [""]) + [f"- `{entry[1]}`: {entry[2]}"]
        elif inside and line.startswith(" "):
            made[-1] += f" {line.strip()}"
        else:
            made += ["", line] if inside and line else [line]
        inside = bool(entry) or (inside and line.startswith(" "))
    return "\n".join(made)
