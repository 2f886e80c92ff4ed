"""`write`: figures of runs as files, and one HTML page that holds all of them and the tables."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from .. import comparison, run_records
from .._messages import path_of, unknown
from ..comparison.tables import Table
from ..files import atomic
from . import extra_figures, partition_counts, run_facts, run_figures
from .column_names import ACCURACIES
from .page_sections import Section, sections
from .run_figures import Drawn
from .style import save

if TYPE_CHECKING:
    from ..comparison import Comparison
    from .run_figures import Groups

FORMATS = ("png", "pdf", "svg", "eps")
PAGE, TEMPLATE = "report.html", "page.html.jinja"
SEVERAL = 3  # paths whose names make a title


def write(
    paths: Sequence[str | Path],
    out: str | Path,
    formats: Sequence[str] = ("png", "pdf"),
    target: float | str | None = None,
    title: str | None = None,
    baseline: str | None = None,
    equal: str | Sequence[str] = (),
    last: int = comparison.LAST,
) -> list[Path]:
    """Draws the runs below `paths` into the folder `out`; returns the files, the page first.

    formats  of the figures' files: png (300 dots per inch), pdf (fonts embedded), svg, eps
    target   as of `fedfast.compare`; an accuracy is marked in the figures too, where it is the same
             for all groups
    title    of the page; by default the names of the paths
    baseline, equal, last  as of `fedfast.compare`
    The page holds everything: no file beside it, no script, no request. Raises ValueError or
    TypeError naming the argument or the folder without a run, OSError where `out` is not written.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    folder = _folder(out)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        groups = run_records.groups(run_records.records(paths))
        measure = run_figures.first_measure(groups)
        found = comparison.compare(paths, target, baseline, last, measure, equal)
    aim = _marked(found) if measure in ACCURACIES else None
    counts, missing = partition_counts.of(groups)
    notes = dict.fromkeys([*(str(w.message) for w in caught), *missing, *found.notes])
    drawn = [*run_figures.figures(groups, counts, aim), *extra_figures.figures(groups)]
    text = _text(title or _title(paths), groups, found, sections(drawn, formats), list(notes))
    folder.mkdir(parents=True, exist_ok=True)
    files = [_saved(one, folder, name) for one in drawn for name in formats]
    atomic(folder / PAGE, lambda to: to.write_text(text, encoding="utf-8"))
    return [folder / PAGE, *files]


def _folder(out: str | Path) -> Path:
    """Where to write, before anything is drawn: no file is in its way."""
    folder = path_of("out", out)
    for above in (folder, *folder.parents):
        if above.exists() and not above.is_dir():
            raise ValueError(f"out: expected a folder, found a file: {above}")
    return folder


def _marked(found: Comparison) -> float | None:
    """The target that was asked for, if all groups have the same."""
    aims = {block.target for block in found.blocks}
    aim = aims.pop() if found.given and len(aims) == 1 else None
    return aim if aim is not None and math.isfinite(aim) else None


def _title(paths: Sequence[str | Path]) -> str:
    names = [Path(path).resolve().name for path in paths]
    return ", ".join(names) if len(names) <= SEVERAL else f"{names[0]} and {len(names) - 1} more"


def _saved(drawn: Drawn, folder: Path, kind: str) -> Path:
    path = folder / f"{drawn.name}.{kind}"
    if kind == "png":
        atomic(path, lambda to: to.write_bytes(drawn.png))
    else:
        atomic(path, lambda to: save(drawn.figure, to))
    return path


def _text(
    title: str, groups: Groups, found: Comparison, sections: list[Section], notes: list[str]
) -> str:
    """The page. The template escapes whatever is put into it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    heads, rows = run_facts.differences(groups)
    return pages.get_template(TEMPLATE).render(
        title=title,
        setting=run_facts.setting(groups),
        notes=notes,
        tables=list(found.brief()),
        sections=sections,
        environment=Table(("what", "value"), run_facts.environment(groups)),
        options=Table(tuple(heads), [tuple(row) for row in rows]),
        configs=run_facts.configs(groups),
        origin=f"fedfast {version('fedfast')}, {datetime.now():%Y-%m-%d %H:%M}",
    )
