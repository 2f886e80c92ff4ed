"""The table of paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .lines import Block
from .paired import PairedTest
from .tables import NONE, Table, signed


def tests(blocks: Sequence[Block], metric: str) -> Table | None:
    """The paired tests; None where there is none with two pairs."""
    found = [
        (line.group.name, str(block.baseline), line.test)
        for block in blocks
        for line in block.lines
        if line.test is not None and len(line.test.seeds) > 1
    ]
    if not found:
        return None
    names = ("group", "against", "pairs", "difference", "95% interval", "p (t-test)")
    rows = [(name, base, *_test_cells(test, metric)) for name, base, test in found]
    optional = ("against", "p (Wilcoxon)", "95% interval")
    made = Table((*names, "p (Wilcoxon)"), rows, optional, name="tests")
    return made.without_constants(("against",))[0]  # the caption names it


def _test_cells(test: PairedTest, metric: str) -> tuple[str, ...]:
    return (
        str(len(test.seeds)),
        signed(test.difference, metric),
        f"{signed(test.low, metric)} … {signed(test.high, metric)}"
        if test.low < test.high
        else NONE,
        _p(test.t_holm),
        _p(test.wilcoxon_holm),
    )


def _p(value: float) -> str:
    """Two digits: `0.034`, `1.2e-05`."""
    return NONE if math.isnan(value) else f"{value:.2g}"
