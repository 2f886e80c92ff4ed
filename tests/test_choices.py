"""The table of choices: what its file may hold, and how a row is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fedfast.kernels import choices_file
from fedfast.kernels.choices import Choice, Row, Shape, Table, precision_of

LIBRARIES = "torch 2.13.0+cu130 cudnn 91300 cublas :4096:8"
MACHINE = "NVIDIA H200", LIBRARIES
WINDOW = dict(taps=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))
CONV = Shape(32, (64, 16, 16), 64, **WINDOW)
POOLED = Shape(32, (64, 16, 16), 64, **WINDOW, groups=2, pool=(2, 2))
DENSE = Shape(50, (784,), 200)
ROWS = (
    Row(*MACHINE, "tf32", "forward", CONV, "cudnn-5-last", (1, 5, 6, 10, 100), 1.25),
    Row(*MACHINE, "tf32", "weight", CONV, "triton"),
    Row(*MACHINE, "fp32", "data", POOLED, "cublas-1", (1, 2), 1.5),
    Row(*MACHINE, "fp64", "forward", DENSE, "cublas-10", (1, 11), 3.0),
)
GOOD = dict(
    device="NVIDIA H200", libraries=LIBRARIES, precision="tf32", part="data", batch="32",
    inputs="64x16x16", outputs="64", taps="3x3", stride="1x1", padding="0x1", dilation="1x1",
    groups="2", pool="2x2", candidate="cudnn-5", verified="1 5 6", gain="1.06",
)  # fmt: skip
PLAIN = dict.fromkeys(("taps", "stride", "padding", "dilation", "pool"), "") | dict(groups="1")


def written(folder: Path, *lines: dict[str, str]) -> Path:
    path = folder / "choices.csv"
    rows = [
        choices_file.COLUMNS,
        *([line[name] for name in choices_file.COLUMNS] for line in lines),
    ]
    path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_table_of_the_repository_can_be_read() -> None:
    table = choices_file.read(choices_file.PATH)
    assert choices_file.text(table) == choices_file.PATH.read_text(encoding="utf-8")


def test_a_table_is_what_its_text_says(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text(choices_file.text(Table(ROWS)), encoding="utf-8")
    assert tuple(choices_file.read(path)) == ROWS


def test_a_line_is_read(tmp_path: Path) -> None:
    (row,) = choices_file.read(written(tmp_path, GOOD))
    window = dict(taps=(3, 3), stride=(1, 1), padding=(0, 1), dilation=(1, 1))
    shape = Shape(32, (64, 16, 16), 64, **window, groups=2, pool=(2, 2))
    assert row == Row(*MACHINE, "tf32", "data", shape, "cudnn-5", (1, 5, 6), 1.06)


def test_each_part_of_a_layer_is_found_alone() -> None:
    table = Table(ROWS)
    assert table.choice(MACHINE, "tf32", CONV) == Choice(forward="cudnn-5-last")
    assert table.choice(MACHINE, "fp32", POOLED) == Choice(data="cublas-1")
    assert str(table.choice(MACHINE, "fp32", POOLED)) == (
        "forward triton, data cublas-1, weight triton"
    )


@pytest.mark.parametrize(
    ("machine", "precision", "shape"),
    [
        (("NVIDIA H100", LIBRARIES), "tf32", CONV),
        ((MACHINE[0], LIBRARIES.replace("2.13", "2.14")), "tf32", CONV),
        (MACHINE, "fp32", CONV),
        (MACHINE, "tf32", Shape(31, (64, 16, 16), 64, **WINDOW)),
        (MACHINE, "tf32", Shape(32, (64, 16, 16), 64, **WINDOW | dict(stride=(2, 2)))),
    ],
    ids=["device", "libraries", "precision", "batch", "stride"],
)
def test_what_has_no_row_is_the_runs(machine, precision, shape) -> None:
    assert Table(ROWS).choice(machine, precision, shape) == Choice()


def test_rows_take_the_place_of_those_with_their_keys() -> None:
    newer = Row(*MACHINE, "tf32", "forward", CONV, "cudnn-1", (1, 2), 2.0)
    assert [row for row in Table(ROWS).joined([newer])] == [newer, *ROWS[1:]]


def test_float64_is_a_precision_of_its_own() -> None:
    assert precision_of("tf32", torch.float64) == precision_of("tf32x3", torch.float64) == "fp64"
    assert precision_of("tf32", torch.float32) == "tf32"


BAD = [
    ("precision", "tf33", "one of fp32, tf32x3, tf32, fp64"),
    ("part", "backward", "one of forward, data, weight"),
    ("batch", "0", "a whole number of at least 1"),
    ("outputs", "64.0", "a whole number of at least 1"),
    ("inputs", "64x16", "numbers I, or CxHxW"),
    ("taps", "", "VERTICALxHORIZONTAL"),
    ("stride", "1", "VERTICALxHORIZONTAL"),
    ("stride", "0x1", "VERTICALxHORIZONTAL"),
    ("padding", "-1x0", "VERTICALxHORIZONTAL"),
    ("pool", "2", "VERTICALxHORIZONTAL or nothing"),
    ("groups", "3", "a divisor of 64 and of 64"),
    ("candidate", "cudnn-7", "one of triton, cudnn-1, "),
    ("verified", "", "numbers of clients, 1 and one above 5"),
    ("verified", "1 5", "numbers of clients, 1 and one above 5"),
    ("verified", "2 10", "numbers of clients, 1 and one above 5"),
    ("gain", "1.0", "a number above 1"),
    ("gain", "nan", "a number above 1"),
    ("gain", "fast", "a number above 1"),
]


@pytest.mark.parametrize(("column", "value", "expected"), BAD)
def test_a_wrong_value_is_named(column: str, value: str, expected: str, tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, GOOD | {"part": "forward", column: value})
    with pytest.raises(ValueError) as error:
        choices_file.read(path)
    start = f"choices.csv, line 3: {column}: expected {expected}"
    assert str(error.value).startswith(start) and str(error.value).endswith(f"got {value!r}")


def test_a_dense_layer_has_no_windows_and_no_convolution(tmp_path: Path) -> None:
    dense = GOOD | PLAIN | dict(inputs="784", candidate="cublas-5")
    (row,) = choices_file.read(written(tmp_path, dense))
    assert row.shape == Shape(32, (784,), 64)
    with pytest.raises(
        ValueError, match="stride: expected nothing, as for dense layers; got '1x1'"
    ):
        choices_file.read(written(tmp_path, dense | dict(stride="1x1")))
    with pytest.raises(ValueError, match="candidate: expected one of triton, cublas-1, cublas-5"):
        choices_file.read(written(tmp_path, dense | dict(candidate="cudnn-5")))


def test_lines_and_columns_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got two of .*'data'"):
        choices_file.read(written(tmp_path, GOOD, GOOD | dict(candidate="triton")))
    path = written(tmp_path, GOOD)
    path.write_text(path.read_text() + "NVIDIA H200,\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 3: expected 16 values; got 2"):
        choices_file.read(path)
    path.write_text("device,part\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"choices.csv: expected the columns device,libraries,"):
        choices_file.read(path)
