"""Turns pydantic's list of errors into lines: place, field, expected, found, nearest name."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .fields import NAMED, Loc, section_at
from .schema import RunConfig
from .sections import AlgorithmSection
from .sweep_section import SweepSection
from .yaml_reader import Where


def known_below(above: Loc, raw: dict[str, object]) -> list[str]:
    """The names allowed below the path `above` in the file."""
    if not above:
        return list(RunConfig.model_fields)
    if above[0] == "algorithms":
        given = raw.get("algorithms")
        labels = list(given) if isinstance(given, dict) else []
        return labels if len(above) == 1 else list(AlgorithmSection.model_fields)
    if above == ("sweep",):
        return list(SweepSection.model_fields)
    return list(section_at(above[0], raw).model_fields) if above[0] in NAMED else []


def unknown(name: str, known: Iterable[str]) -> str:
    """`unknown field; nearest: alpha (known: ...)`."""
    known = list(known)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    listed = ", ".join(known)
    return f"unknown field{f', nearest: {near[0]}' if near else ''} (known here: {listed})"


def explain(
    error: ValidationError,
    path: Path,
    raw: dict[str, object],
    where: Where,
    flags: dict[Loc, str],
    above: Loc = (),
) -> str:
    """One line per error, each complete in itself; `above`: the section that was checked alone."""
    lines = []
    for detail in error.errors(include_url=False):
        loc = (*above, *_loc(detail))
        what = _what(detail, loc, raw)
        flag = _flag(loc, flags)
        if flag:  # came from the command line, where the flag is the place
            lines.append(f"{flag}: {what}")
        else:
            lines.append(f"{_place(loc, path, where)}: {'.'.join(loc)}: {what}")
    return "\n".join(lines)


def _what(detail: ErrorDetails, loc: Loc, raw: dict[str, object]) -> str:
    kind, found = detail["type"], detail["input"]
    context = cast(dict[str, object], detail.get("ctx", {}))
    if kind == "extra_forbidden":
        return unknown(loc[-1], known_below(loc[:-1], raw))
    if kind == "missing":
        return "needed, but not given"
    if kind in ("named", "unknown_name"):
        return detail["msg"]
    if kind == "literal_error":
        return f"expected {context['expected']}, found {found!r}"
    if kind == "string_pattern_mismatch":
        label = "a label of letters, digits, _, + and -"
        wanted = label if loc[0] == "algorithms" else RunConfig.model_fields[loc[0]].description
        hint = f'; write mine: {{name: "{found}"}}' if ":" in str(found) and wanted == label else ""
        return f"expected {wanted}, found {found!r}{hint}"
    if kind == "rate" and isinstance(found, dict):
        return f"expected a schedule, found {found!r} ({detail['msg']})"
    if kind == "list_type":
        return f"expected a list, found {found!r}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"expected a mapping, found {found!r}"
    return f"expected {_expected(detail['msg'])}, found {found!r}"


def _expected(message: str) -> str:
    plain = message.removeprefix("Input should be ").removeprefix("Input should ")
    plain = plain.replace("valid ", "").replace("a integer", "an integer")
    return f"a number {plain}" if plain.startswith(("greater", "less")) else plain


def _loc(detail: ErrorDetails) -> Loc:
    parts = [str(part) for part in detail["loc"]]
    if detail["type"] == "named":
        parts.append("name")
    return tuple(part for part in parts if part != "[key]")


def _flag(loc: Loc, flags: dict[Loc, str]) -> str:
    """The flag that gave the value at `loc`, or the list that it is in; "" where none did."""
    return next((flags[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in flags), "")


def _place(loc: Loc, path: Path, where: Where) -> str:
    while loc and loc not in where:  # a missing field is reported at its section
        loc = loc[:-1]
    return f"{path}:{where[loc]}" if loc else f"{path}"
