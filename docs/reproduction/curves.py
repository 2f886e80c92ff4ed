"""Curves of runs that different machines made, from the table of what they reached.

    python docs/reproduction/curves.py TABLE.csv    # TABLE.png and TABLE-bytes.png beside it

TABLE.csv has the columns algorithm, round and accuracy, and bytes: what server and clients had
exchanged by then.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from fedfast.report.bands import band
from fedfast.report.curve_figures import against_bytes, per_round
from fedfast.report.curve_panels import Curve
from fedfast.report.style import line_style, save


class Column(dict[str, list[float]]):
    """Of one algorithm; see `fedfast.report.bands.Columns`."""

    def column(self, name: str) -> list[float]:
        """In the order of rounds."""
        return self[name]


def read(table: Path) -> dict[str, Column]:
    """Columns of every algorithm, in the table's order."""
    found: dict[str, Column] = defaultdict(Column)
    with table.open() as lines:
        for row in csv.DictReader(lines):
            for name in ("round", "accuracy", "bytes"):
                found[row["algorithm"]].setdefault(name, []).append(float(row[name]))
    return found


def main(table: Path) -> None:
    """Draw both figures."""
    runs = read(table)
    bands = [band([run], "accuracy") for run in runs.values()]
    curves = [Curve(k, b, line_style(i)) for i, (k, b) in enumerate(zip(runs, bands, strict=True))]
    save(per_round(curves, "accuracy"), table.with_suffix(".png"))
    sent = [np.array(run.column("bytes")) for run in runs.values()]
    save(against_bytes(curves, sent, "accuracy"), table.with_name(f"{table.stem}-bytes.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
