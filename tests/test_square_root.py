"""Square roots are those of IEEE 754, which Python's `math.sqrt` has on every processor."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedfast.square_root import square_root


@given(st.lists(st.floats(0.0, allow_infinity=True), min_size=1, max_size=40))
def test_every_element_is_correctly_rounded(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    assert square_root(x).tolist() == [math.sqrt(v) for v in values]


@pytest.mark.parametrize("shape", [(), (3, 4)])
def test_shapes_and_strides(shape: tuple[int, ...]) -> None:
    x = torch.full(shape, 2.0, dtype=torch.float64).mT if shape else torch.tensor(2.0).double()
    assert square_root(x).shape == x.shape
    assert (square_root(x) == math.sqrt(2.0)).all()
    assert square_root(torch.tensor([-1.0])).isnan().all()
