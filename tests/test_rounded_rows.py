"""Rows copied into bfloat16 and back: against torch's own conversion, for every kind of number."""

import pytest
import torch
from fedfast.kernels import rounded_rows
from fedfast.kernels.rounded_rows import copy_rows
from hypothesis import given, settings
from hypothesis import strategies as st

SPECIAL = [float("inf"), -float("inf"), float("nan"), -0.0, 1e-40, -1e-45, 3.4e38, 1.00390625]
SPECIAL += [1.01171875, -1.00390625]  # halfway between two: to the even one


def _same(a, b):
    assert torch.equal(a.isnan(), b.isnan())
    assert torch.equal(a.nan_to_num(), b.nan_to_num())
    assert torch.equal(a.signbit() & ~a.isnan(), b.signbit() & ~b.isnan())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32), min_size=1, max_size=150),
    st.sampled_from([(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32),
                     (torch.float64, torch.bfloat16), (torch.float32, torch.float32)]),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_rows_are_torchs_own(numbers, dtypes, random):
    numbers = [*numbers, *SPECIAL]
    width = len(numbers)
    source = torch.zeros(5, width + 3, dtype=dtypes[0])[:, :width]  # rows of a wider table
    source[:] = torch.stack([torch.tensor(random.sample(numbers, width)) for _ in range(5)])
    into = torch.full((7, width + 1), 5.0, dtype=dtypes[1])
    at, places = torch.tensor([4, 0, 2]), torch.tensor([6, 1, 3])
    copy_rows(source, at, into[:, :width], places)
    _same(into[places, :width], source[at].to(dtypes[1]))
    assert (into[:, width] == 5).all() and (into[[0, 2, 4, 5]] == 5).all()


@pytest.mark.skipif(not rounded_rows.AVAILABLE, reason="no compiled module")
def test_rows_outside_of_a_table_are_refused():
    source, into = torch.ones(3, 4), torch.zeros(2, 4, dtype=torch.bfloat16)
    for at, places in (([3], [0]), ([0], [2]), ([-1], [0])):
        with pytest.raises(IndexError, match="rows: expected 0 to"):
            copy_rows(source, torch.tensor(at), into, torch.tensor(places))
    with pytest.raises(ValueError, match="as many as wide"):
        copy_rows(source, torch.tensor([0, 1]), into, torch.tensor([0]))
    assert not into.any()
