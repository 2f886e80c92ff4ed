"""Which figures groups of runs have, and what stands below them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..history import FIELDS, columns_of
from . import client_figure, curve_figures, time_figure
from .bands import band, cumulative_bytes
from .client_scores import GLOBAL, PERSONAL, Spread, last_scores
from .column_names import ACCURACIES, NAMES
from .curve_panels import Curve
from .partition_plot import PAPER, partition
from .style import LineStyle, line_style, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..run_records import RunRecord

MEANING = {
    "local_accuracy": " (the global model on clients' own test parts, mean over clients)",
    "personal_accuracy": " (personal models on their clients' own test parts, mean over clients)",
}
METRICS = {
    "cosine_global": "Cosine between a client's update and the mean update, mean over clients",
    "cosine_pairs": "Cosine between two clients' updates, mean over pairs",
    "conflicts": "Share of pairs of clients whose updates have a negative inner product",
    "conflicts_tensors": "The same of single tensors of the updates, mean over tensors",
    "conflicts_after": "Share of pairs in conflict once the server has harmonized the updates",
    "conflicts_tensors_after": "The same of single tensors, mean over tensors",
    "delta_eps": "Distance of the server's perturbation, along the pseudo-gradient of the round "
    "before, from that along the present one",
    "delta_eps_cosine": "Cosine between the present pseudo-gradient and that of the round before",
    "model_norm": "Euclidean norm of the global model's parameters",
    "drift_global": "Mean squared distance of the clients' models from the model they were sent",
    "drift_mean": "Mean squared distance of the clients' models from their mean",
    "momentum_cosine": "Cosine between a client's mean gradient and the momentum, mean over "
    "clients",
}
STYLED = 12  # groups with a line style of their own; all others are thin and grey
Groups = Mapping[str, Sequence["RunRecord"]]


@dataclass(frozen=True)
class Drawn:
    """A figure, the stem of its file's name, the section of the page, and what it shows."""

    name: str
    section: str
    caption: str
    figure: Figure

    @cached_property
    def png(self) -> bytes:
        """The picture, rendered once: each rendering moves the axes by parts of a pixel."""
        picture = io.BytesIO()
        save(self.figure, picture, "png")
        return picture.getvalue()


def figures(
    groups: Groups, counts: Mapping[str, np.ndarray], target: float | None = None
) -> Iterator[Drawn]:
    """Every figure for which something was measured.

    counts  title -> samples per client and class of each partition, int64 [N, classes]
    target  an accuracy from 0 to 1 that figures mark
    """
    styles = styles_of(groups)
    yield from curve_drawings(groups, styles, target)
    yield from metric_drawings(groups, styles)
    yield from _clients(groups, styles)
    for i, (title, numbers) in enumerate(counts.items()):
        text = f"Samples per client and class; areas are proportional to numbers. {title}."
        number = f"-{i + 1}" if len(counts) > 1 else ""
        yield Drawn(f"partition{number}", "Partition", text, partition(numbers, None, title, PAPER))
    yield from _time(groups)


def first_measure(groups: Groups) -> str:
    """What the report is about first: the first of `NAMES` of which there is a value.

    Raises ValueError where there is none.
    """
    for name in NAMES:
        if any(len(band([run.history], name)) for runs in groups.values() for run in runs):
            return name
    raise ValueError(f"runs: expected values of {', '.join(NAMES)}, found none")


def styles_of(groups: Groups) -> dict[str, LineStyle | None]:
    """The same style of a group in all figures; of more than 12 the best keep one."""
    names = list(groups)
    if len(names) > STYLED:
        measure = first_measure(groups)
        last = {c.label: c.band.mean[-1] for c in _curves(groups, measure, dict.fromkeys(names))}
        sign = -1 if measure in ACCURACIES else 1
        best = sorted(last, key=lambda name: sign * last[name])[:STYLED]
        names = [name for name in names if name in best]
    made = {name: line_style(i) for i, name in enumerate(names)}
    return {name: made.get(name) for name in groups}


def curve_drawings(
    groups: Groups, styles: Mapping[str, LineStyle | None], target: float | None
) -> Iterator[Drawn]:
    """Each measure per round, then the first of them, which has a target, against bytes."""
    measured = {name: curves for name in NAMES if (curves := _curves(groups, name, styles))}
    first = first_measure(groups)
    for name, curves in measured.items():
        figure = curve_figures.per_round(curves, name, target if name == first else None)
        text = f"{NAMES[name].capitalize()}{MEANING.get(name, '')} per round{_over_seeds(curves)}"
        yield Drawn(name.replace("_", "-"), "Curves", text, figure)
    if max(len(curve.band) for curve in measured[first]) > 1:
        yield _bytes(groups, first, measured[first], target)


def metric_drawings(groups: Groups, styles: Mapping[str, LineStyle | None]) -> Iterator[Drawn]:
    """Each column of metrics of which there is a value, per round."""
    runs = [run for of in groups.values() for run in of]
    names = dict.fromkeys(name for run in runs for name in columns_of(run.history)[len(FIELDS) :])
    for name in names:
        if curves := _curves(groups, name, styles):
            text = f"{METRICS.get(name, f'Column {name}')}, per round{_over_seeds(curves)}"
            figure = curve_figures.per_round(curves, name)
            yield Drawn(name.replace("_", "-"), "Metrics", text, figure)


def _bytes(groups: Groups, name: str, curves: list[Curve], target: float | None) -> Drawn:
    sent = [
        cumulative_bytes([run.history for run in groups[c.label]], c.band.rounds) for c in curves
    ]
    text = (
        f"{NAMES[name].capitalize()} against the bytes that server and clients have exchanged, "
        f"models and what algorithms add to them (1 MB = 10⁶ bytes){_over_seeds(curves)} The first "
        "eighth of the bytes is left out."
    )
    figure = curve_figures.against_bytes(curves, sent, name, target)
    return Drawn("bytes", "Bytes", text, figure)


def _curves(groups: Groups, name: str, styles: Mapping[str, LineStyle | None]) -> list[Curve]:
    """The groups of which the column `name` has a value."""
    made = []
    for label, of in groups.items():
        runs = [run for run in of if name in run.history.columns]
        broken = [i for i, run in enumerate(runs) if run.status == "stopped"]
        found = band([run.history for run in runs], name, broken).binned()
        if len(found):
            made.append(Curve(label, found, styles[label]))
    return made


def _over_seeds(curves: Sequence[Curve]) -> str:
    seeds = {int(n) for curve in curves for n in curve.band.count}
    if seeds <= {1}:
        return ", one seed."
    return ": mean over seeds, and a band of one standard deviation (n − 1) on either side."


def _clients(groups: Groups, styles: Mapping[str, LineStyle | None]) -> Iterator[Drawn]:
    """Histograms of groups whose runs kept their clients' accuracies."""
    scores = {
        label: [last_scores(run.folder, run.label) for run in runs]
        for label, runs in groups.items()
        if styles[label] is not None
    }
    for name, which in ((GLOBAL, "the global model"), (PERSONAL, "their personal models")):
        spreads = {
            label: (Spread([found[name] for found in of if name in found]), styles[label])
            for label, of in scores.items()
            if any(name in found for found in of)
        }
        if spreads:
            text = (
                f"Clients by the accuracy of {which} on their own test parts, in the last tested "
                "round; all seeds together. Worst 10 %: mean of the lowest tenth of the clients; "
                "std: over clients; both per seed, then their mean."
            )
            stem = "clients" if name == GLOBAL else "clients-personal"
            shown = {label: (spread, style) for label, (spread, style) in spreads.items() if style}
            yield Drawn(stem, "Clients", text, client_figure.histograms(shown, name))


def _time(groups: Groups) -> Iterator[Drawn]:
    found = {
        label: time_figure.phases([run.history for run in runs], [run.seconds for run in runs])
        for label, runs in groups.items()
    }
    timed = {label: phases for label, phases in found.items() if phases is not None}
    if timed:
        text = (
            "Wall clock of a round by phase, mean over all rounds of all seeds. Rest: checkpoints, "
            "callbacks, logs, as far as the run's whole time was kept."
        )
        yield Drawn("time", "Time", text, time_figure.bars(timed))
