"""Summaries by hand."""

import math

import pytest

from fedfast.better import directed
from fedfast.history import History, Row
from fedfast.report.summaries import number

# Tested in rounds 2, 4 and 5; a scalar in every round but the first.
HISTORY = History(
    Row(t, accuracy=a, loss=loss, update_norm=t / 2, scalars=s)
    for t, a, loss, s in [
        (1, math.nan, math.nan, ""),
        (2, 0.5, 3.0, "conflicts=4.0 alpha=0.5"),
        (3, math.nan, math.nan, "conflicts=1.0 alpha=0.25"),
        (4, 0.75, 1.0, "conflicts=0.0 alpha=0.125"),
        (5, 0.625, 2.0, "conflicts=2.0 alpha=1e-05"),
    ]
)


@pytest.mark.parametrize(
    ("column", "summary", "expected"),
    [
        ("accuracy", "last", 62.5),  # percent
        ("accuracy", "best", 75.0),
        ("accuracy", "mean-2", (75 + 62.5) / 2),
        ("accuracy", "mean-100", (50 + 75 + 62.5) / 3),  # fewer than a hundred were tested
        ("accuracy", "round-2", 50.0),
        ("loss", "last", 2.0),  # no percent
        ("loss", "sum", 6.0),
        ("loss", "best", 1.0),
        (directed("loss", "max"), "best", 3.0),
        (directed("accuracy", "min"), "best", 50.0),
        ("update_norm", "round-3", 1.5),
        ("conflicts", "sum", 7.0),
        ("conflicts", "round-4", 0.0),
        ("alpha", "last", 1e-5),
    ],
)
def test_summaries(column, summary, expected):
    assert number(HISTORY, column, summary) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("column", "summary"),
    [("accuracy", "round-3"), ("accuracy", "round-9"), ("personal_accuracy", "best"), ("x", "sum")],
)
def test_what_was_not_measured_is_nan(column, summary):
    assert math.isnan(number(HISTORY, column, summary))
