"""What is to be said about a comparison beside its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..report.summaries import tested
from ..run_names import differing, text
from .lines import Block, Line
from .samples import Group

OWN = "algorithm."


def notes(blocks: Sequence[Block], metric: str, last: int) -> list[str]:
    """One line for each: unfinished runs, missing values, seeds without a pair, unequal options."""
    groups = [line.group for block in blocks for line in block.lines]
    found = [f"{group.name}: {remark}" for group in groups for remark in group.remarks]
    found += _few(groups, metric, last)
    for block in blocks:
        found += [*_unpaired(block), *_options(block)]
    return found


def _few(groups: Sequence[Group], metric: str, last: int) -> Iterator[str]:
    """Seeds without a value, and means over fewer rounds than asked for."""
    short: dict[str, int] = {}
    for group in groups:
        counts = {seed: tested(history, metric) for seed, history in group.histories.items()}
        if without := [seed for seed, count in counts.items() if not count]:
            yield f"{group.name}: {_seeds(without)} without {metric}: no mean over seeds"
        elif min(counts.values()) < last:
            short[group.name] = min(counts.values())
    if short:
        found = ", ".join(f"{count} ({name})" for name, count in short.items())
        yield f"fewer than {last} tested rounds, of which the mean is: {found}"


def _unpaired(block: Block) -> Iterator[str]:
    """Groups without a test, and seeds that are not part of one."""
    base = next((line for line in block.lines if line.group.name == block.baseline), None)
    if base is None:
        yield f"{block.name}: no run of the baseline: nothing is relative to it"
        return
    tests = [(line, line.test) for line in block.lines if line.test is not None]
    if few := [line.group.name for line, test in tests if len(test.seeds) < 2]:
        yield f"a paired test needs 2 seeds in common with {block.baseline}: {', '.join(few)}"
    for line, test in tests:
        if alone := _alone(line, base, test.seeds):
            yield f"{line.group.name}: not in the paired test: {alone}"


def _alone(line: Line, base: Line, pairs: Sequence[int]) -> str:
    """Seeds of either that the other lacks."""
    ours, theirs = (
        [seed for seed in group.histories if seed not in pairs]
        for group in (line.group, base.group)
    )
    said = [_seeds(ours)] if ours else []
    return " and ".join(said + ([f"{_seeds(theirs)} of {base.group.name}"] if theirs else []))


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _options(block: Block) -> Iterator[str]:
    """The options that differ between groups; a warning for those that are not the algorithm's."""
    groups = [line.group for line in block.lines]
    for key in differing([group.options for group in groups]):
        if key == f"{OWN}name":
            continue
        warning = "" if key.startswith(OWN) else "warning: not all else is equal: "
        yield f"{warning}{key.removeprefix(OWN)}: {_by_value(groups, key)}"


def _by_value(groups: Sequence[Group], key: str) -> str:
    """`100 (fedavg, fedprox), 200 (fedsam)`; `100, 200` where each name says its own."""
    names: dict[str, list[str]] = {}
    for group in groups:
        if key in group.options:
            names.setdefault(text(group.options[key]), []).append(group.name)
    short = key.removesuffix(".name").rpartition(".")[2]
    if all(f"{short}={value}" in name.split() for value, of in names.items() for name in of):
        return ", ".join(names)
    return ", ".join(f"{value} ({', '.join(of)})" for value, of in names.items())
