"""Figures of a page under their headings."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from .run_figures import Drawn

ZOOM = 144  # pixels of the page per inch of a figure: text of 7 points is read as one of 14 pixels


@dataclass(frozen=True)
class Shown:
    """A figure as the page has it: base64 of its PNG, pixels, caption and file names."""

    png: str
    width: int
    height: int
    caption: str
    files: str


@dataclass(frozen=True)
class Section:
    """Figures under one heading."""

    title: str
    figures: list[Shown]

    @property
    def id(self) -> str:
        """What links to it name."""
        return self.title.lower().replace(" ", "-")


def sections(drawn: Sequence[Drawn], formats: Sequence[str]) -> list[Section]:
    """The figures by their sections, in the order of the figures."""
    made: dict[str, list[Shown]] = {}
    for one in drawn:
        made.setdefault(one.section, []).append(_shown(one, formats))
    return [Section(title, figures) for title, figures in made.items()]


def _shown(drawn: Drawn, formats: Sequence[str]) -> Shown:
    wide, tall = (round(ZOOM * inches) for inches in drawn.figure.get_size_inches())
    files = ", ".join(f"{drawn.name}.{kind}" for kind in formats)
    return Shown(b64encode(drawn.png).decode(), wide, tall, drawn.caption, files)
