"""Runs with known numbers, and what is read back from figures of them."""

import math
from itertools import combinations

import numpy as np

from fedfast.history import History, Row
from fedfast.report import curve_panels
from fedfast.report.bands import band
from fedfast.report.style import line_style


def run(rounds, seed=0, top=0.8, every=1, noise=0.01, until=None):
    """A run that learns, tested every so many rounds; it ends after `until`."""
    draw = np.random.default_rng(seed)
    rows = []
    for t in range(1, (until or rounds) + 1):
        rest = math.exp(-5 * t / rounds)
        accuracy = min(1.0, 0.1 + (top - 0.1) * (1 - rest) + noise * draw.standard_normal())
        loss = 2.3 * rest + 1.2 - top + noise * abs(draw.standard_normal())
        if t % every:
            accuracy = loss = math.nan
        sizes = {"bytes_down": 4_000_000, "bytes_up": 2_000_000}
        rows.append(Row(t, accuracy, loss, 2 / t, clients=10, seconds=0.1, **sizes))
    return History(rows)


def curves_of(groups, name="accuracy"):
    """Curves as figures of `groups`, label -> runs, have them."""
    made = [(label, band(runs, name).binned()) for label, runs in groups.items()]
    return [curve_panels.Curve(label, of, line_style(i)) for i, (label, of) in enumerate(made)]


def texts(figure):
    """(text, its box) of everything that is printed."""
    figure.canvas.draw()
    found = [text for legend in figure.legends for text in legend.get_texts()]
    found += [figure._suptitle, figure._supylabel]
    for ax in figure.axes:
        found += [ax.xaxis.label, ax.yaxis.label, ax._left_title, *ax.texts]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            found += [
                tick.label1
                for tick in axis.get_major_ticks()
                if low <= tick.get_loc() <= high and tick.label1.get_visible()
            ]
    shown = [text for text in found if text is not None and text.get_text()]
    return [(text.get_text(), text.get_window_extent()) for text in shown]


def overlapping(figure):
    """Pairs of texts whose boxes share more than half a point."""
    slack = figure.dpi / 144
    found = []
    for (one, a), (other, b) in combinations(texts(figure), 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        tall = min(a.y1, b.y1) - max(a.y0, b.y0)
        if wide > slack and tall > slack:
            found.append((one, other))
    return found


def outside(figure):
    """Texts that do not lie within the figure."""
    box = figure.bbox
    return [
        text
        for text, a in texts(figure)
        if a.x0 < box.x0 - 1 or a.x1 > box.x1 + 1 or a.y0 < box.y0 - 1 or a.y1 > box.y1 + 1
    ]


def band_of(ax, i):
    """(x, low, high) of the i-th area of an axes."""
    corners = ax.collections[i].get_paths()[0].vertices
    x = np.unique(corners[:, 0])
    low, high = (np.array([f(corners[corners[:, 0] == t, 1]) for t in x]) for f in (min, max))
    return x, low, high
