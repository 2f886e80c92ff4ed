"""What the API reference makes of docstrings: their lists of names, and those made at run time."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator

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
    """The docstring of a class whose arguments are declared elsewhere, with its signature."""
    module, name = path.rsplit(".", 1)
    made = getattr(importlib.import_module(module), name)
    first, _, rest = (inspect.getdoc(made) or "").partition("\n")
    lines = "".join(f"    {line},\n" for line in _arguments(inspect.signature(made)))
    return f"{first}\n\n```python\n{name}(\n{lines})\n```\n{rest}"


def _arguments(signature: inspect.Signature) -> Iterator[str]:
    star = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            star = True
            yield "*"
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        yield f"{parameter.name}{default}"


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
