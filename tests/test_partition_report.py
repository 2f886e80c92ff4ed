"""Plots and tables of partitions against the counts that they show."""

import io
from pathlib import Path
from textwrap import fill

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from test_cli import TINY

from fedfast.cli import main
from fedfast.data import FederatedData, dirichlet_equal
from fedfast.data.describe import effective_classes
from fedfast.report import partition_plot, partition_table
from fedfast.report.plots import partition


def federation(counts):
    """Clients that hold exactly so many samples of each class."""
    ys = [torch.from_numpy(np.repeat(np.arange(len(own)), own)) for own in counts]
    return FederatedData.from_arrays([torch.zeros(len(y), 1) for y in ys], ys)


def shown(figure):
    """{(client, class): area} of every bubble of every band."""
    found = {}
    for ax in figure.axes:
        dots = ax.collections[0]
        areas = np.broadcast_to(dots.get_sizes(), len(dots.get_offsets()))
        for place, area in zip(dots.get_offsets().tolist(), areas, strict=True):
            assert tuple(place) not in found
            found[tuple(place)] = area
    return found


COUNTS = st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(counts=COUNTS.filter(lambda counts: any(own[-1] for own in counts)))
def test_areas_are_proportional_to_samples(counts):
    found = shown(partition(np.array(counts)))
    held = {(i, c): n for i, own in enumerate(counts) for c, n in enumerate(own) if n}
    assert found.keys() == held.keys()
    ratios = [found[place] / n for place, n in held.items()]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-12)


@pytest.mark.parametrize(("clients", "bands"), [(7, 1), (100, 1), (101, 2), (1000, 10)])
def test_many_clients_stand_in_bands_and_none_is_lost(clients, bands):
    data = federation(np.random.default_rng(0).integers(0, 3, (clients, 4)) + [0, 0, 0, 1])
    figure = partition(data.counts())
    assert len(figure.axes) == bands
    assert shown(figure).keys() == set(zip(*map(list, np.nonzero(data.counts())), strict=True))
    assert figure.axes[-1].get_xlabel() == "client"
    for ax in figure.axes:  # every band lies within what its axes show
        low, high = ax.get_xlim()
        assert all(low < x < high for x, _ in ax.collections[0].get_offsets())


def test_what_is_not_shown_is_said():
    figure = partition(np.eye(62, dtype=int)[np.arange(620) % 62])
    assert max(i for i, _ in shown(figure)) == 299
    assert figure.axes[-1].get_xlabel() == "client (the first 300 of 620)"


@given(st.integers(1, 10**7))
def test_the_legend_goes_nearly_as_far_as_the_data(largest):
    numbers = partition_plot._numbers(largest)
    assert numbers == sorted(numbers) and 1 <= len(numbers) <= 3
    assert largest / 2.5 <= numbers[-1] <= largest


def test_files(tmp_path):
    data = federation([[1, 2], [3, 0]])
    data.plot(tmp_path / "a.png", "of two clients")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    data.plot(tmp_path / "a.svg", "of two clients")
    assert "<!-- of two clients -->" in (tmp_path / "a.svg").read_text()
    with pytest.raises(ValueError, match="path: expected a name that ends in .png"):
        data.plot(tmp_path / "a.abc")


def test_effective_classes():
    counts = np.array([[5, 5, 5, 5], [4, 2, 2, 0], [9, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(effective_classes(counts), [4, 2**1.5, 1, 0], rtol=1e-15)


def printed(data, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(partition_table.table(data))
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_the_table_of_few_classes_shows_every_count():
    data = federation([[3000, 0, 1000], [0, 2, 2]] + [[1, 1, 1]] * 20)
    lines = printed(data)
    assert "client samples eff. 0 1 2" in lines
    assert "0 4000 1.75 3000 · 1000" in lines  # 4 / 3^(3/4)
    assert "1 4 2.00 · 2 2" in lines and sum(line.endswith("1 1 1") for line in lines) == 8
    with_test = data.with_test([data.client(1)] * 22)
    assert "0 4000 1.75 4 3000 · 1000" in printed(with_test)


def test_the_table_of_many_classes_lists_the_largest():
    counts = np.zeros((1, 100), dtype=int)
    counts[0, [99, 7, 3, 50, 20, 21, 22]] = [50, 90, 20, 30, 10, 10, 10]
    (line,) = [line for line in printed(federation(counts), 100) if line.startswith("0 ")]
    assert line.startswith("0 220 5.02") and line.endswith(
        " 7 7: 90, 99: 50, 50: 30, 3: 20, 20: 10, … 2 more"
    )


def test_ten_columns_of_thousands_fit_a_terminal():
    data = federation(np.full((3, 10), 1234)).with_test([federation([[1234] * 10]).client(0)] * 3)
    assert "0 12340 10.00 12340 " + " ".join(["1234"] * 10) in printed(data)


def test_the_command_draws_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    assert main(["partition", "tiny.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "tiny-partition.png"
    assert Path("tiny-partition.png").stat().st_size > 1000
    flags = ["--partition.name", "dirichlet", "--partition.alpha", "0.5", "--out"]
    assert main(["partition", "tiny.yaml", *flags, "who.svg"]) == 0
    title = "digits: dirichlet, clients 6, alpha 0.5, min_size 1, seed 0"
    drawn = Path("who.svg").read_text()
    assert all(f"<!-- {line} -->" in drawn for line in fill(title, 55).splitlines())
    for out, message in ((["--out"], "expected a file"), (["--out=no/a.png"], "--out: .*No such")):
        assert main(["partition", "tiny.yaml", *out]) == 2
        assert message.split(".*")[-1] in capsys.readouterr().err


def test_a_partition_of_equal_amounts_looks_equal():
    y = torch.arange(2000) % 10
    data = dirichlet_equal((torch.zeros(2000, 1), y), 20, 0.3)
    found = shown(partition(data.counts()))
    columns = [sum(a for (i, _), a in found.items() if i == client) for client in range(20)]
    np.testing.assert_allclose(columns, columns[0], rtol=1e-12)
