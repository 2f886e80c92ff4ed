"""Texts about groups of runs: what they were, where they ran, what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import run_files
from ..run_names import differing, text
from .run_table import duration

if TYPE_CHECKING:
    from ..run_records import RunRecord

Groups = Mapping[str, Sequence["RunRecord"]]
Pairs = list[tuple[str, str]]
OWN = "algorithm."
BY = "written by "
NONE = "–"  # an option that an algorithm does not have


def setting(groups: Groups) -> str:
    """One sentence: data, partition, model, rounds, where they are the same in all groups."""
    runs = [run for of in groups.values() for run in of]
    options = [run.options for run in runs]
    apart = set(differing(options))

    def of(key: str) -> str:
        return "(several)" if key in apart else text(options[0].get(key))

    seeds = sorted({run.seed for run in runs})
    return (
        f"{len(runs)} run{'s' * (len(runs) > 1)} of {len(groups)} group{'s' * (len(groups) > 1)}: "
        f"data {of('data.name')}, {of('partition.name')} partition to {of('partition.clients')} "
        f"clients, model {of('model.name')}, {of('rounds')} rounds, participation "
        f"{of('participation')}, {of('local_epochs')} local epochs, batch size {of('batch_size')}, "
        f"learning rate {of('lr')}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}."
    )


def differences(groups: Groups) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) of a table of the options in which groups differ; rows are groups."""
    options = {label: runs[0].options for label, runs in groups.items()}
    keys = list(dict.fromkeys(key for of in options.values() for key in of))
    # An option that only some algorithms have differs, too.
    apart = differing([{key: of.get(key, NONE) for key in keys} for of in options.values()])
    heads = ["group", *(key.removeprefix(OWN) for key in apart), "seeds"]
    rows = []
    for label, of in options.items():
        values = [text(of.get(key, NONE)) for key in apart]
        rows.append([label, *values, ", ".join(str(run.seed) for run in groups[label])])
    return heads, rows


def environment(groups: Groups) -> Pairs:
    """What the runs were made with: versions, processor, threads, commands, time."""
    runs = [run for of in groups.values() for run in of]
    kept = [run_files.about(run.folder, run.label) for run in runs]
    heads = [_comment(run.folder / "config.yaml") for run in runs]
    facts: dict[str, list[str]] = {
        "versions": [about.versions for about in kept],
        "written by": [x.removeprefix(BY) for head in heads for x in head if x.startswith(BY)],
        "device": [run.device for run in runs],
        "threads": [str(run.config.threads or "all") for run in runs],
        "type of the weights": [run.config.dtype for run in runs],
        "backend": [str(run.config.backend) for run in runs],
        "seeds": [", ".join(map(str, sorted({run.seed for run in runs})))],
        "command": [line for head in heads for line in head if not line.startswith(BY)],
        "time of all runs": [duration(sum(run.seconds for run in runs))],
    }
    if any(facts["versions"]):
        del facts["written by"]
    distinct = {name: list(dict.fromkeys(filter(None, of))) for name, of in facts.items()}
    return [(name, "\n".join(of)) for name, of in distinct.items() if of]


def _comment(path: Path) -> list[str]:
    """The lines of the comment at the head of a config file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line.removeprefix("#").strip() for line in lines[:end]]


def configs(groups: Groups) -> Pairs:
    """(folder, text) of the config of the first run of each group, each folder once."""
    folders = dict.fromkeys(runs[0].folder for runs in groups.values())
    return [(str(f), (f / "config.yaml").read_text(encoding="utf-8")) for f in folders]
