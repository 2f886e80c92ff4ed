"""A paper's largest eigenvalues of Hessians beside those of `fedfast hessian`: markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.hessian import spectrum
from ..runs import measured_rows
from .markdown import markdown_table

if TYPE_CHECKING:
    from ..config.paper import Eigenvalues

HEADS = ("row", "model", "data", "published", "ours")
CAPTION = """\
Largest eigenvalue of the Hessian. Of clients' models: mean (lowest … highest); the paper's \
clients are not ours. Ours: what `fedfast hessian` has measured in the rows' folders, all seeds."""
# Field of the config -> (whether of the global model, data) and how a line names both.
LINES = {
    "global_model": (True, spectrum.TRAIN, "global", "train"),
    "clients_own": (False, spectrum.OWN, "clients", "own"),
    "clients_train": (False, spectrum.TRAIN, "clients", "train"),
}


def eigenvalues_markdown(
    published: Eigenvalues | None, folders: Mapping[str, Sequence[Path]]
) -> str:
    """Caption and a line for each label and kind of model; "" where nothing is published.

    folders  label -> those of its rows that were run
    """
    if published is None:
        return ""
    cells = []
    for label, own in folders.items():
        for name, (whole, data, *shown) in LINES.items():
            said, found = published.tables[name].get(label), _measured(own, label, whole, data)
            if own and (said is not None or found):
                cells.append((label, *shown, _published(said, whole), _range(found)))
    return f"{CAPTION}\n\n{markdown_table(HEADS, cells, left=(0, 1, 2))}\n" if cells else ""


def _measured(folders: Sequence[Path], label: str, whole: bool, data: str) -> list[float]:
    found = [
        one
        for folder in folders
        for one in spectrum.of_rows(measured_rows.read(folder, spectrum.NAME))
    ]
    return [
        one.values[0]
        for one in found
        if (one.label, one.model == spectrum.GLOBAL, one.data) == (label, whole, data)
        and one.batch_statistics is None
    ]


def _published(value: object, whole: bool) -> str:
    """As `Eigenvalues` has it; of the global model a second number is a standard deviation."""
    if value is None or isinstance(value, str):
        return value or "not at hand"
    assert isinstance(value, int | float | list)
    numbers: list[float] = value if isinstance(value, list) else [value]
    if whole and len(numbers) == 2:
        return f"{numbers[0]:g} ± {numbers[1]:g}"
    return _range(numbers)


def _range(values: Sequence[float]) -> str:
    if not values:
        return "not measured"
    mean = f"{np.mean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4g} … {max(values):.4g})"
