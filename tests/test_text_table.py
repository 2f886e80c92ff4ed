"""Tables of text: every cell is there, under its head, in lines that fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedfast.report.run_table import fitting
from fedfast.report.text_table import aligned, listed

WORD = st.text("abcdefgh", min_size=1, max_size=9)
HEAD = st.lists(WORD, min_size=1, max_size=3).map(" ".join)


@given(st.data(), st.integers(2, 9), st.integers(1, 4), st.integers(60, 100))
def test_all_cells_are_shown_in_lines_that_fit(data, columns, rows, width):
    heads = data.draw(st.lists(HEAD, min_size=columns, max_size=columns))
    cells = [[f"r{i}c{j}" for j in range(columns)] for i in range(rows)]
    blocks = aligned(heads, cells, width).split("\n\n")
    assert all(len(line) <= width for block in blocks for line in block.splitlines())
    shown = [[line.split() for line in block.splitlines()[-rows:]] for block in blocks]
    for i, row in enumerate(cells):
        assert all(block[i][0] == row[0] for block in shown)
        assert [cell for block in shown for cell in block[i][1:]] == row[1:]


def test_heads_are_folded_only_where_a_line_is_too_long():
    heads, rows = ("label", "flatness distance"), [("fedavg", "0.1")]
    assert aligned(heads, rows) == "label   flatness distance\nfedavg                0.1"
    assert aligned(heads, rows, 20) == "        flatness\nlabel   distance\nfedavg       0.1"
    narrow = "label   flatness\n"  # a first column again, above each of the others
    assert aligned(("label", "flatness", "drift"), [("fedavg", "0.1", "2")], 17).startswith(narrow)


def test_a_column_that_must_be_shown_goes_last_even_without_values():
    heads, rows = ("group", "best", "final", "to 80%"), [("fedavg", "1.5", "1.25", "–")]
    assert fitting(heads, rows, 26, ("best", "final")) == [0, 2, 3]
    assert fitting(heads, rows, 20, ("best", "final")) == [0, 3]
    assert fitting(heads, rows, 10, ("best", "final")) == [0]


@given(st.lists(st.from_regex(r"[a-z]{1,9}(-[a-z]{1,9}){0,2}", fullmatch=True)))
def test_names_are_listed_whole_in_lines_that_fit(names):
    lines = listed(names, 40).splitlines()
    assert [name for line in lines for name in line.split()] == names
    assert all(line.startswith("  ") and len(line) <= 40 for line in lines)
