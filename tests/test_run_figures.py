"""Figures of runs: what they draw is what was measured, and all of it can be read."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_figures import band_of, curves_of, outside, overlapping, run

from fedfast.history import History, Row
from fedfast.report import client_figure, curve_figures, limits, partition_plot, style, time_figure
from fedfast.report.bands import MOST, band, cumulative_bytes
from fedfast.report.client_scores import Spread
from fedfast.report.units import size

LONG = "fedgamma alpha=0.1 rho=0.05 model=resnet18 lr=cosine(start=0.1,rounds=300) momentum=0.9"
NAMES = ("fedavg", "fedsam", "fedgloss", "scaffold", "feddyn", "fedprox", "fedspeed", "fedsmoo")
DEUTERANOPIA = [  # Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]


def groups(count, rounds, seeds=3, **how):
    labels = [*NAMES, "fedlesam", "fedcm", "mofedsam", LONG]
    return {
        label: [run(rounds, 10 * i + s, 0.6 + 0.02 * i, **how) for s in range(seeds)]
        for i, label in enumerate(labels[:count])
    }


SEEDS = st.lists(
    st.lists(st.floats(0, 1, width=16) | st.just(math.nan), min_size=1, max_size=9),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_bands_are_the_mean_and_the_sample_deviation_of_the_seeds(seeds):
    runs = [History(Row(t + 1, accuracy=a) for t, a in enumerate(of)) for of in seeds]
    found = band(runs, "accuracy")
    lasts = [max((t for t, a in enumerate(of) if not math.isnan(a)), default=-1) for of in seeds]
    for t in range(9):
        going = [of for of, last in zip(seeds, lasts, strict=True) if t <= last]
        values = [of[t] for of in going]
        if not values or any(math.isnan(v) for v in values):
            assert t + 1 not in found.rounds
            continue
        at = list(found.rounds).index(t + 1)
        assert found.mean[at] == pytest.approx(sum(values) / len(values), abs=1e-12)
        assert found.count[at] == len(values)
        squares = sum((v - found.mean[at]) ** 2 for v in values)
        if len(values) > 1:
            assert found.std[at] == pytest.approx(math.sqrt(squares / (len(values) - 1)), abs=1e-9)
        else:
            assert math.isnan(found.std[at])


def test_a_figure_draws_the_means_and_the_deviations():
    runs = {"a": [run(40, s) for s in range(3)], "b": [run(40, 7, every=5)]}
    figure = curve_figures.per_round(curves_of(runs), "accuracy")
    values = np.array([[row.accuracy for row in history] for history in runs["a"]])
    whole, late = figure.axes
    assert list(whole.lines[0].get_xdata()) == list(range(1, 41))
    np.testing.assert_allclose(whole.lines[0].get_ydata(), values.mean(axis=0), rtol=1e-12)
    x, low, high = band_of(whole, 0)
    std = values.std(axis=0, ddof=1)
    np.testing.assert_allclose(low, values.mean(axis=0) - std, rtol=1e-12)
    np.testing.assert_allclose(high, values.mean(axis=0) + std, rtol=1e-12)
    assert list(late.lines[0].get_xdata()) == list(range(32, 41)) and len(whole.collections) == 1
    assert list(whole.lines[1].get_xdata()) == list(range(5, 41, 5))
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["a", "b", "± std over 3 seeds"]


def test_long_runs_are_drawn_as_means_of_neighbours_up_to_the_last_round():
    runs = [run(2 * MOST + 7, s) for s in range(2)]
    whole = band(runs, "accuracy")
    found = whole.binned()
    assert len(found) <= MOST and found.rounds[-1] == 2 * MOST + 7 and found.each == 5
    for i in (0, 50, -1):
        at = list(whole.rounds).index(found.rounds[i])
        assert found.mean[i] == pytest.approx(whole.mean[at - 4 : at + 1].mean())
        assert found.std[i] == pytest.approx(whole.std[at - 4 : at + 1].mean())


def test_bytes_are_those_of_all_rounds_until_then():
    rows = [Row(t, accuracy=0.1 * t, bytes_down=10 * t, bytes_up=t) for t in (1, 2, 3)]
    twice = History(replace(row, bytes_down=3 * row.bytes_down + 2 * row.bytes_up) for row in rows)
    found = cumulative_bytes([History(rows), twice], np.array([2.0, 3.0]))
    assert found.tolist() == [2 * (11 + 22), 2 * (11 + 22 + 33)]
    assert [size(count) for count in (7, 999_700, 2.5e9)] == ["7 B", "1 MB", "2.5 GB"]


def test_a_run_that_ended_early_has_a_cross():
    runs = {"a": [run(30, 0), run(30, 1, until=12)]}
    figure = curve_figures.per_round(curves_of(runs), "accuracy")
    (cross,) = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    last = runs["a"][1].last()
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (12, last.accuracy)


@pytest.mark.parametrize("name", ["accuracy", "loss"])
def test_the_end_of_every_curve_is_within_the_axes(name):
    runs = groups(6, 60) | {"late": [run(60, 3, top=0.85)], "bad": [run(60, 4, top=0.1)]}
    exploding = [replace(row, loss=10.0**row.round) for row in run(12, 5)]
    runs["exploding"] = [History(exploding)]
    curves = curves_of(runs, name)
    whole, *_, late = curve_figures.per_round(curves, name).axes
    for curve in curves:
        low, high = whole.get_ylim()
        assert any(low <= value <= high for value in curve.band.mean), curve.label
        if curve.label != "exploding":
            assert low <= curve.band.mean[-1] <= high
    low, high = late.get_ylim()
    ends = {c.label: c.band.mean[-1] for c in curves if c.band.rounds[-1] == 60}
    missing = {label for label, end in ends.items() if not low <= end <= high}
    assert missing == {"bad"} and late.get_title(loc="left") == "last 20 % (outside: 2 curves)"
    shown = [end for label, end in ends.items() if label != "bad"]
    assert np.ptp(shown) > 0.4 * (high - low)  # their differences fill the panel


def test_two_curves_far_apart_are_both_shown_at_the_end():
    runs = {"a": [run(50, 0, top=0.9)], "b": [run(50, 1, top=0.1)]}
    bounds, left = limits.late_limits([c.band.after(40) for c in curves_of(runs)])
    assert not left and bounds[0] < 0.1 and bounds[1] > 0.88


@pytest.mark.parametrize("name", ["accuracy", "loss"])
@pytest.mark.parametrize("count, rounds, seeds", [(3, 1, 3), (2, 3, 3), (1, 50, 1), (3, 900, 2)])
def test_texts_of_curves_lie_apart_and_inside(count, rounds, seeds, name):
    readable(groups(count, rounds, seeds), name)


def test_texts_of_twelve_curves_with_a_long_label_lie_apart_and_inside():
    readable(groups(12, 30, 2), "accuracy")


def readable(runs, name):
    curves = curves_of(runs, name)
    sent = [cumulative_bytes(runs[c.label], c.band.rounds) for c in curves]
    for figure in (
        curve_figures.per_round(curves, name, 0.7),
        curve_figures.against_bytes(curves, sent, name, 0.7),
    ):
        assert figure.get_figwidth() == style.COLUMN
        assert not overlapping(figure) and not outside(figure)


def test_texts_of_other_figures_lie_apart_and_inside():
    draw = np.random.default_rng(0)
    labels = ["fedavg", LONG, "scaffold"]
    scores = {
        label: (Spread([draw.uniform(0.3, 1, 20)]), style.line_style(i))
        for i, label in enumerate(labels)
    }
    times = {label: time_figure.Phases({"local training": 1.0, "tests": 0.2}) for label in labels}
    counts = draw.integers(0, 30, (130, 10))
    title = "cifar10: dirichlet, clients 130, alpha 0.3, min_size 1, seed 0"
    for figure in (
        client_figure.histograms(scores),
        time_figure.bars(times),
        partition_plot.partition(counts, None, title, partition_plot.PAPER),
    ):
        assert figure.get_figwidth() == pytest.approx(style.COLUMN)
        assert not overlapping(figure) and not outside(figure)


def test_overlapping_texts_are_found():
    figure = style.figure_of((2, 2))
    ax = figure.subplots()
    ax.text(0.5, 0.5, "other")
    ax.text(0.52, 0.5, "another")
    assert ("other", "another") in overlapping(figure)


def lab(colour, seen_by=None):
    """CIELAB of `#RRGGBB`, as eyes with this matrix see it."""
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear if seen_by is None else np.array(seen_by) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = to_xyz @ linear / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("seen_by", [None, DEUTERANOPIA, PROTANOPIA])
def test_colours_differ_for_every_kind_of_colour_vision(seen_by):
    seen = [lab(colour, seen_by) for colour in style.COLOURS]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 15  # 2.3 is just noticeable
    white = lab("#FFFFFF")
    assert min(np.linalg.norm(lab(colour) - white) for colour in style.COLOURS) > 40


def test_twelve_curves_differ_without_colours_and_35_with_them():
    styles = [style.line_style(i) for i in range(35)]
    assert len({of.marker for of in styles[:12]}) == 12
    assert len({(of.colour, of.dash) for of in styles}) == 35


def test_the_worst_tenth_and_the_deviation_of_clients():
    # Of 20 clients two are the worst tenth; of 11 it is two as well, rounded up.
    one, other = np.arange(20) / 20, np.array([0.5, 0.2] + [1.0] * 9)
    found = Spread([one, other])
    assert found.worst == pytest.approx(((0.0 + 0.05) / 2 + (0.2 + 0.5) / 2) / 2)
    mean = 9.7 / 11
    std = math.sqrt(((0.5 - mean) ** 2 + (0.2 - mean) ** 2 + 9 * (1 - mean) ** 2) / 11)
    assert found.std == pytest.approx((math.sqrt((20**2 - 1) / 12) / 20 + std) / 2)
    figure = client_figure.histograms({"a": (found, style.line_style(0))})
    ax = figure.axes[0]
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(100)
    assert [line.get_xdata()[0] for line in ax.lines] == [found.mean, found.worst]
    assert f"worst 10 % {100 * found.worst:.1f}, std" in ax.get_title(loc="left")


def test_phases_add_up_to_the_time_of_a_round():
    timed = [
        Row(t, seconds=2.0, server_seconds=0.5, evaluation_seconds=3.0 if t == 2 else math.nan)
        for t in (1, 2)
    ]
    found = time_figure.phases([History(timed)] * 2, [9.0, 8.0])
    assert dict(found.seconds) == {"local training": 1.5, "server": 0.5, "tests": 1.5, "rest": 0.75}
    ax = time_figure.bars({"a": found}).axes[0]
    assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(4.25)
    old = time_figure.phases([History([Row(1, seconds=2.0)])], [2.0])
    assert dict(old.seconds) == {"training and server": 2.0}
    assert time_figure.phases([History([Row(1)])], [0.0]) is None


def test_files_have_the_resolution_and_the_fonts_that_papers_want(tmp_path):
    figure = curve_figures.per_round(curves_of({"a": [run(5)]}), "accuracy")
    style.save(figure, tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in content and b"/Type3" not in content  # TrueType, embedded
    style.save(figure, tmp_path / "a.png")
    header = (tmp_path / "a.png").read_bytes()
    assert int.from_bytes(header[16:20]) == 300 * style.COLUMN
    with pytest.raises(ValueError, match=r"path: expected a name that ends in .png"):
        style.save(figure, tmp_path / "a.docx")


def test_notebooks_show_a_figure():
    shown = History([Row(1, accuracy=0.5), Row(2, accuracy=0.6)]).plot()._repr_png_()
    assert shown.startswith(b"\x89PNG")


def test_a_label_is_no_mathematics_and_at_most_three_lines():
    assert style.label_text("a$b$") == r"a\$b\$"
    lines = style.label_text(" ".join([LONG] * 4)).splitlines()
    assert len(lines) == 3 and lines[-1].endswith("…")


@pytest.mark.parametrize("letter", ["w", "W", "i", "@"])
def test_a_legend_of_wide_letters_stays_within_the_figure(letter):
    runs = {"fedavg": [run(5)], f"long_{letter * 200}": [run(5, 1)]}
    figure = curve_figures.per_round(curves_of(runs), "accuracy")
    figure.draw_without_rendering()
    legend = figure.legends[-1].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= figure.get_figwidth() * figure.dpi


def test_single_points_stand_side_by_side_within_the_axes():
    late = [Row(t) for t in range(1, 30)]
    runs = {
        label: [History([*late, Row(30, personal_accuracy=0.8 + 0.01 * i)])]
        for i, label in enumerate(NAMES[:3])
    }
    ax = curve_figures.per_round(curves_of(runs, "personal_accuracy"), "personal_accuracy").axes[0]
    places = [line.get_xdata()[0] for line in ax.lines]
    assert np.diff(places).min() > 0.4 and list(ax.get_xticks()) == [30]
    assert ax.get_xlim()[0] < places[0] and places[-1] < ax.get_xlim()[1]


def test_of_curves_that_coincide_the_one_with_more_gaps_is_above():
    ax = style.figure_of((3.5, 2)).subplots()
    curve_figures.all_rounds(ax, curves_of({label: [run(20)] for label in "abcdef"}), "accuracy")
    lines = ax.lines
    solid, dashed, dotted, _, _, again = (line.get_zorder() for line in lines)
    assert solid == again < dashed < dotted


def test_curves_on_each_other_have_a_panel_each_with_the_others_behind():
    runs = {label: [run(40, 3, top=0.8 + 0.001 * i)] for i, label in enumerate("abcd")}
    curves = curves_of(runs | {"far": [run(40, 3, top=0.2)]})
    figure = curve_figures.per_round(curves, "accuracy")
    *small, late = figure.axes
    assert [ax.get_title() for ax in small] == ["a", "b", "c", "d", "far"]
    assert late.get_title(loc="left").startswith("last 20 %")
    for curve, ax in zip(curves, small, strict=True):
        *behind, own = ax.lines
        assert own.get_color() == curve.style.colour and len(behind) == len(curves)
        np.testing.assert_array_equal(own.get_ydata(), curve.band.mean)
        assert (ax.get_xlim(), ax.get_ylim()) == (small[0].get_xlim(), small[0].get_ylim())
    assert not overlapping(figure) and not outside(figure)


def test_curves_apart_share_a_panel():
    """Two on each other are told apart by their dashes; a third one far away changes nothing."""
    runs = {"a": [run(40, 3)], "b": [run(40, 3)], "c": [run(40, 3, top=0.2)]}
    assert len(curve_figures.per_round(curves_of(runs), "accuracy").axes) == 2
