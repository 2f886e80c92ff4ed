"""`frozen.changed` against `dataclasses.replace`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfast.frozen import changed


@dataclass(frozen=True)
class Three:
    a: int
    b: str = ""
    c: tuple[int, ...] = ()


FIELDS = dict(a=st.integers(), b=st.text(), c=st.lists(st.integers()).map(tuple))


@given(st.builds(Three, **FIELDS), st.fixed_dictionaries({}, optional=FIELDS))
def test_it_is_the_librarys_replace(value, fields):
    before = replace(value)
    assert changed(value, **fields) == replace(value, **fields)
    assert value == before


@pytest.mark.parametrize("fields", [dict(d=1), dict(a=2, A=3), dict(clients=4, rounds=5)])
def test_names_of_no_field_are_refused(fields):
    with pytest.raises(ValueError, match="Three: expected fields") as error:
        changed(Three(1), **fields)
    assert all(f"'{name}'" in str(error.value) for name in fields if name not in "abc")
