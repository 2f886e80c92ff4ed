"""What a user sees of a run: bar, lines, table, curves."""

import io
import math
import re
import sys
from dataclasses import replace

import matplotlib
import pytest
from rich.console import Console

from fedfast.history import History, Row
from fedfast.report import run_table
from fedfast.report.plots import curves
from fedfast.report.progress import Progress


def rows(n, every=1, top=0.9):
    def row(r):
        test = (top * r / n, 1 / r) if r % every == 0 else (math.nan, math.nan)
        return Row(r, *test, 2 / r, 0.1, 4, 40, 1.0, 0.5, 8.0)

    return [row(r) for r in range(1, n + 1)]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, given, rounds):
    with Progress(rounds, "fedsam", stream) as show:
        for row in given:
            show(row)
    return stream.getvalue()


def test_a_file_gets_complete_lines_each_tenth_of_the_rounds():
    lines = shown(io.StringIO(), rows(100), 100).splitlines()
    assert len(lines) == 10 and lines[0].startswith("fedsam round=10/100 accuracy=0.0900 loss=0.1 ")
    assert all("clients/s=8" in line for line in lines)
    assert "eta=" in lines[0] and "eta=" not in lines[-1]


def test_a_short_run_gets_every_line():
    assert len(shown(io.StringIO(), rows(7), 7).splitlines()) == 7


def test_trouble_gets_a_line_at_once():
    bad = Row(3, status="diverged: client 7 non-finite")
    text = shown(io.StringIO(), [*rows(100)[:2], bad], 100)
    assert text.count("\n") == 1 and 'status="diverged: client 7 non-finite"' in text


def test_an_accuracy_of_an_earlier_round_says_so():
    lines = shown(io.StringIO(), rows(10, every=5), 10).splitlines()
    assert "accuracy" not in lines[3] and "tested_in" not in lines[4]
    assert "accuracy=0.4500" in lines[5] and "tested_in=5" in lines[5]


@pytest.mark.parametrize(("width", "speed"), [("80", True), ("60", False)])
def test_a_terminal_gets_one_bar(monkeypatch, width, speed):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", width)
    text = shown(Terminal(), rows(40), 40)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\n", "\r").split("\r")
    last = [line for line in drawn if line.strip()][-1]
    for part in ("fedsam", "━━━━", "40/40", "90.00%", "loss 0.025"):
        assert part in last
    assert ("8 clients/s" in last) == speed  # what a narrow terminal can do without
    assert "round=" not in text


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert "round=1/3" in shown(Terminal(), rows(3), 3)


def test_the_table_names_final_best_and_trouble():
    bad = Row(2, status="diverged: client 7 non-finite")
    histories = {"a": History(rows(4)), "none": History(), "x": History([Row(1), bad])}
    text = run_table.markdown(histories)
    assert "| a | 4 | 90.00% | 90.00% (4) | 0.25 | 2.00 s | 8 |" in text
    assert "| none | 0 | – | – | – |" in text
    assert "- **x**: round 2: diverged: client 7 non-finite" in text


def test_the_terminal_table_fits_80_columns_and_marks_the_best():
    histories = {"a": History(rows(200)), "fedgloss+sam": History(rows(200, top=0.95))}
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.print(run_table.table(histories))
    text = console.file.getvalue()
    assert "\x1b[1;32m95.00%" in text and "\x1b[1;32m90.00%" not in text and "…" not in text


def own_tests(n, tested=True):
    """A run whose clients have test parts of their own."""
    own = dict(personal_accuracy=0.75, local_accuracy=0.5, seconds=100.0)
    return History(replace(row if tested else Row(row.round), **own) for row in rows(n))


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize(
    "histories",
    [
        {"a": own_tests(200), "fedgloss+sam of a long label": own_tests(20)},
        {"fedavg-ft": own_tests(20, tested=False)},
    ],
)
def test_a_narrow_terminal_gets_fewer_columns_and_whole_words(histories, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(run_table.table(histories, width))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    cells = [*run_table.rows(histories), run_table.heads(histories)]
    whole = {word for row in cells for cell in row for word in cell.split()}
    shown = {word for word in text.split() if set(word) != {"─"}}
    assert shown <= whole
    assert {word for label in histories for word in label.split()} <= shown
    assert {"algorithm", "local", "personal", "50.00%", "75.00%"} <= shown
    assert shown == whole or width < 140


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.50 s"), (41.34, "41.3 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert run_table.duration(seconds) == text


def test_curves_draw_what_was_tested(tmp_path):
    figure = curves({"a": History(rows(20, every=5)), "b": History(rows(20))}, tmp_path / "c.png")
    accuracy, loss = figure.axes
    assert list(accuracy.lines[0].get_xdata()) == [5, 10, 15, 20]
    assert loss.get_yscale() == "log"  # b fell twentyfold
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_test_set_the_training_loss_is_drawn():
    figure = curves({"a": History([Row(r, train_loss=1 / r) for r in (1, 2)])})
    assert [ax.get_ylabel() for ax in figure.axes] == ["training loss"]


def test_clients_own_tests_are_drawn_where_there_is_no_other():
    shared = [Row(r, train_loss=1.0, local_accuracy=0.1 * r) for r in (1, 2, 3)]
    tuned = [*shared[:2], replace(shared[2], personal_accuracy=0.7)]
    figure = curves({"a": History(shared), "b": History(tuned)})
    common, own = figure.axes
    assert list(common.lines[0].get_ydata()) == [0.1, 0.2, 0.1 * 3]
    best = next(line for line in own.lines if len(line.get_xdata()))
    assert list(best.get_xdata()) == [3] and list(best.get_ydata()) == [0.7]
    assert len(curves({"a": History(shared)}).axes) == 1


@pytest.mark.parametrize("n", [0, 1])
def test_curves_of_next_to_nothing_draw(tmp_path, n):
    curves({"a": History(rows(n))}, tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_drawing_changes_nothing_for_others(tmp_path):
    before, pyplot = dict(matplotlib.rcParams), "matplotlib.pyplot" in sys.modules
    History(rows(3)).plot(tmp_path / "c.svg")
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot
    assert "<svg" in (tmp_path / "c.svg").read_text()


def test_the_table_has_columns_of_the_clients_own_tests_where_a_run_has_them():
    own = dict(personal_accuracy=0.75, local_accuracy=0.5)
    tuned = History([*rows(2), Row(3, **own), Row(4)])
    text = run_table.markdown({"a": History(rows(4)), "b": tuned})
    assert text.splitlines()[0].endswith("| clients/s | local | personal |")
    assert text.splitlines()[2].endswith(" | – | – |")
    assert text.splitlines()[3].endswith(" | 50.00% | 75.00% |")
    assert "personal" not in run_table.markdown({"a": History(rows(4))})


def test_long_runs_have_the_mean_of_the_last_hundred_rounds():
    # Accuracy t / 1000 in round t: the last hundred of 150 average to 0.1005.
    long = History(Row(t, accuracy=t / 1000, loss=1.0) for t in range(1, 151))
    text = run_table.markdown({"a": long})
    assert text.splitlines()[0].endswith("| clients/s | mean of last 100 |")
    assert text.splitlines()[2].endswith(" | 10.05% |")
    assert "mean of last" not in run_table.markdown({"a": long[:99]})
