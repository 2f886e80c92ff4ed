"""What the columns of the tables are, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from ..better import sign
from ..report.summaries import PERCENT
from .lines import Block
from .tables import partly_reached, percent

TESTS = """\
Paired differences over seeds to {base}{unit}: means of the last {last} tested rounds, with 95% \
confidence intervals (Student's t); p of the paired two-sided t-test and of Wilcoxon's signed-rank \
test (6 pairs or more), after Holm's correction over all groups."""
RESULTS = """\
{metric}: mean ± sample standard deviation over seeds. Rounds, and bytes sent to and received from \
clients, to {target}: medians over seeds, a seed that never reaches it counting as later than all \
others."""


def results(blocks: Sequence[Block], metric: str, given: bool) -> str:
    """Of the table of results; `given`: whether the target was."""
    what = metric.replace("_", " ").capitalize() + (" in %" if metric in PERCENT else "")
    aim = _target(blocks, metric, given)
    if whole := any(block.whole for block in blocks):
        aim = f"what the baseline comes to, {aim}"
    text = RESULTS.format(metric=what, target=aim)
    lines = [line for block in blocks for line in block.lines]
    if any(partly_reached(line) for line in lines):
        text += " (k of n): the seeds that reach it."
    if not all(line.middle for line in lines):
        text += " –: half of the seeds or more do not reach it."
    names = dict.fromkeys(block.baseline for block in blocks if block.baseline)
    if not names:
        return text
    runs = ", whose line has its whole runs, of all their rounds and bytes" if whole else ""
    return f"{text} Relative to {', '.join(names)}{runs}."


def tests(blocks: Sequence[Block], metric: str, last: int) -> str:
    """Of the table of paired tests."""
    bases = {block.baseline for block in blocks if block.baseline}
    base = bases.pop() if len(bases) == 1 else "baselines"
    unit = ", in percentage points" if metric in PERCENT else ""
    return TESTS.format(base=base, unit=unit, last=last)


def _target(blocks: Sequence[Block], metric: str, given: bool) -> str:
    """The target, or those of several blocks, and how it was chosen."""
    aims = [(percent(block.target, metric), block.name) for block in blocks]
    best = "lowest" if sign(metric) < 0 else "highest"
    chosen = f"the {best} that more than half of the seeds of every group reach"
    if len(aims) == 1 or (given and len({aim for aim, _ in aims}) == 1):
        return aims[0][0] + ("" if given else f" ({chosen})")
    listed = ", ".join(f"{aim} ({name})" for aim, name in aims)
    return listed if given else f"{listed} (each {chosen} under that setting)"
