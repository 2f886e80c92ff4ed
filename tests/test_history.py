"""Rows survive CSV exactly, also when the writer was killed; best and last mean what they say."""

import math
from dataclasses import replace

import pandas
import pytest
from federation import federation, mlp

import fedfast
from fedfast.history import FIELDS, History, Row, Rows, line, read_runs

ROWS = [
    Row(1, 0.1 + 0.2, 1 / 3, 2.5, 0.1, 10, 300, 1e-17, 0.25, 40.0),
    Row(2, math.nan, math.nan, 1.5, 0.1 * 0.998, 10, 299, 5e300, 0.5, 20.0),
    Row(3, 0.7, -0.0, math.inf, 1e-5, 0, 0, 0.0, 1.0, 0.0, 'diverged: "client 7", non-finite'),
]


def exact(history):
    return [repr(row) for row in history]  # nan is not equal to itself, its text is


def test_csv_gives_back_every_bit(tmp_path):
    History(ROWS).to_csv(tmp_path / "h.csv")
    assert exact(History.from_csv(tmp_path / "h.csv")) == exact(ROWS)


def test_a_file_that_pandas_wrote_again_is_read(tmp_path):
    History(ROWS[:2]).to_csv(tmp_path / "h.csv")
    pandas.read_csv(tmp_path / "h.csv").to_csv(tmp_path / "again.csv", index=False)
    assert ",," in (tmp_path / "again.csv").read_text()  # nan as pandas writes it
    assert exact(History.from_csv(tmp_path / "again.csv")) == exact(ROWS[:2])


def test_an_empty_history_survives_too(tmp_path):
    History().to_csv(tmp_path / "h.csv")
    assert len(History.from_csv(tmp_path / "h.csv")) == 0


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path, cut):
    History(ROWS).to_csv(tmp_path / "h.csv")
    whole = (tmp_path / "h.csv").read_bytes()
    (tmp_path / "h.csv").write_bytes(whole[:-cut])
    assert exact(History.from_csv(tmp_path / "h.csv")) == exact(ROWS[:2])


def test_a_file_of_two_algorithms_is_read_by_label(tmp_path):
    path = tmp_path / "history.csv"
    rows = [("b", ROWS[0]), ("a", ROWS[0]), ("a", ROWS[1])]
    cells = [[getattr(row, name) for name in FIELDS] for _, row in rows]
    lines = [line([label, *cell]) for (label, _), cell in zip(rows, cells, strict=True)]
    path.write_text(line(["algorithm", *FIELDS]) + "".join(lines))
    found = read_runs(path)
    assert list(found) == ["b", "a"] and exact(found["a"]) == exact(ROWS[:2])
    with pytest.raises(ValueError, match="expected one algorithm, found b, a"):
        History.from_csv(path)


def test_a_damaged_file_is_refused_with_its_line(tmp_path):
    path = tmp_path / "h.csv"
    History(ROWS).to_csv(path)
    path.write_text(path.read_text().replace("\n2,", "\ntwo,"))
    with pytest.raises(ValueError, match=r"h\.csv:3: not a row of a history"):
        History.from_csv(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected columns round, accuracy"):
        History.from_csv(path)


def test_best_is_the_first_of_equals_and_ignores_untested_rounds():
    rows = [Row(1, 0.5), Row(2), Row(3, 0.9), Row(4, 0.9), Row(5)]
    history = History(rows)
    assert history.best() is rows[2] and history.last() is rows[4]
    assert [row.round for row in history.tested()] == [1, 3, 4]


def test_best_and_last_of_nothing_say_so():
    with pytest.raises(ValueError, match="expected at least one round"):
        History().last()
    with pytest.raises(ValueError, match="give a test set"):
        History([Row(1)]).best()


def test_a_history_is_like_a_list():
    history = History(ROWS[:1])
    history.append(ROWS[1])
    assert list(history) == ROWS[:2] and history[-1] is ROWS[1] and list(history[1:]) == ROWS[1:2]
    assert history.column("clients") == [10, 10]
    with pytest.raises(ValueError, match="found 'clint'"):
        history.column("clint")


def test_pandas_has_one_line_per_round():
    frame = History(ROWS).to_pandas()
    assert list(frame.index) == [1, 2, 3] and frame.loc[3, "status"].startswith("diverged")
    assert frame["accuracy"].isna().sum() == 1 and frame["clients"].dtype == "int64"


def test_files_from_before_the_later_columns_are_read(tmp_path):
    path = tmp_path / "h.csv"
    old = [name for name in FIELDS if name not in ("server_seconds", "evaluation_seconds")]
    timed = [replace(row, server_seconds=0.125, evaluation_seconds=2.5) for row in ROWS]
    path.write_text(line(old) + "".join(line(getattr(r, name) for name in old) for r in timed))
    assert exact(History.from_csv(path)) == exact(ROWS)
    path.write_text(path.read_text().replace("bytes_up", "bites_up"))
    with pytest.raises(ValueError, match=r"lacks \['bytes_up'\]"):
        History.from_csv(path)


def test_rounds_know_the_time_of_each_phase():
    data = federation([8, 9, 7])
    test = data.client(0)
    sim = fedfast.Simulation(mlp(), data, test=test, rounds=4, eval_every=2, batch_size=4)
    for row in sim:
        assert 0 < row.server_seconds < row.seconds
        assert (row.evaluation_seconds > 0) == (row.round % 2 == 0)


def test_rows_that_follow_others_leave_them_alone():
    one = Rows([Row(1)])
    two, other = one.followed_by(Row(2)), one.followed_by(Row(7))
    three = two.followed_by(Row(3))
    assert [[row.round for row in rows] for rows in (one, two, other, three)] == [
        [1],
        [1, 2],
        [1, 7],
        [1, 2, 3],
    ]
    assert two[-1] == Row(2) and three[1:] == (Row(2), Row(3)) and one[-1] == Row(1)
    with pytest.raises(IndexError, match="expected a row below 2; got 2"):
        two[2]
