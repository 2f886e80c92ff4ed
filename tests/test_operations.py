"""What every operation promises on every backend, for the forms of `operation_forms.py`.

Results are those of the reference in float64; a client's bits do not depend on other clients, on
threads, on where tensors lie or on what else they are; nothing but outputs is written.
"""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from fedfast.kernels.declaration import OPERATIONS, InOut, Operation, Terms
from fedfast.kernels.table import markdown
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st
from layer_cases import same, threads
from operation_calls import make
from operation_checks import SCRATCH, TOLERANCE, counted, errors, of_clients, results
from operation_forms import CASES, ROW_CASES
from operation_inputs import Form
from torch import Tensor

ALL = [(operation, form) for operation, cases in CASES.items() for form in cases.forms]

# Interpreted, a layer keeps its promises in its first form; the others are only compared.
PROMISED = [
    (operation, form, backend)
    for operation, form in ALL
    for backend in ("native", "triton")
    if backend == "native" or operation in ROW_CASES or form == next(iter(CASES[operation].forms))
]

DTYPES = st.sampled_from(list(TOLERANCE))
every_promise = pytest.mark.parametrize(("operation", "form", "backend"), PROMISED)
every_form = pytest.mark.parametrize(("operation", "form"), ALL)
every_backend = pytest.mark.parametrize("backend", ("native", "triton"))
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=("float32", "float64"))
# Triton's interpreter computes with numpy, which warns where infinity meets infinity.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def forms(operation: str, form: str, backend: str) -> list[Form]:
    """The form in all its sizes; interpreted, several forms share the sizes among them."""
    cases = CASES[operation]
    sizes = cases.small + cases.native
    if backend == "triton":
        sizes = cases.small
        if len(sizes) > 5:
            sizes = sizes[list(cases.forms).index(form) :: len(cases.forms)]
    return [cases.forms[form] | own for own in sizes]


def example(operation: str, form: str, backend: str) -> Form:
    """The form in one small size; the first has few elements."""
    sizes = forms(operation, form, backend)
    return sizes[min(1, len(sizes) - 1)]


@lru_cache(maxsize=4)
def untouched(operation: str, form: str, backend: str) -> dict[str, Tensor]:
    """Results of the example for three clients; tests of one form come one behind the other."""
    return make(operation, example(operation, form, backend), 3).guarded_run(backend)


def compare(
    operation: str, form: Form, clients: int, dtype: torch.dtype, backend: str, **layout: Any
) -> None:
    """The backend's results with the reference's."""
    call = make(operation, form, clients, dtype, **layout)
    found = errors(operation, form, clients, call, dtype, backend, **layout)
    assert {name: error for name, error in found.items() if not error[0] <= error[1]} == {}


@every_backend
@every_dtype
@every_form
def test_against_the_reference(operation: str, form: str, dtype: torch.dtype, backend: str) -> None:
    for given in forms(operation, form, backend):
        for clients in (1, 3, 7) if backend == "native" and operation in ROW_CASES else (2,):
            compare(operation, given, clients, dtype, backend)


@pytest.mark.parametrize("operation", ROW_CASES)
@settings(max_examples=25, deadline=None)
@given_by(data=st.data())
def test_any_rows(operation: str, data: st.DataObject) -> None:
    form = ROW_CASES[operation].forms[
        data.draw(st.sampled_from(sorted(ROW_CASES[operation].forms)))
    ]
    given = form | {"S": data.draw(st.integers(1, 1100))}
    layout = dict(layout="mixed", parity=data.draw(st.integers(0, 1)))
    compare(operation, given, data.draw(st.integers(2, 9)), data.draw(DTYPES), "native", **layout)


@every_promise
def test_where_tensors_lie_changes_no_bit(operation: str, form: str, backend: str) -> None:
    """Every second operand shared by all clients, the others with gaps between these."""
    for given in forms(operation, form, backend)[-2 if backend == "native" else -1 :]:
        for parity in (0, 1):
            lying = (
                make(operation, given, 3, layout=way, parity=parity)
                for way in ("repeated", "mixed")
            )
            dense, mixed = (results(call, backend) for call in lying)
            for name, value in dense.items():
                same(mixed[name], value)


@every_promise
def test_a_client_alone_equals_the_client_in_company(
    operation: str, form: str, backend: str
) -> None:
    clients = 5 if backend == "native" else 4
    for given in forms(operation, form, backend)[-3 if backend == "native" else -1 :]:
        drawn = make(operation, given, clients)
        call = deepcopy(drawn)
        company = of_clients(operation, call, results(call, backend))
        for k in (0, clients - 1):
            one = deepcopy(drawn).client(k)
            for name, value in of_clients(operation, one, one.run(backend)).items():
                if name in company:
                    same(value[0], company[name][k])


@pytest.mark.parametrize(("operation", "form"), [(o, f) for o, f in ALL if CASES[o].large])
def test_threads_change_no_bit(operation: str, form: str) -> None:
    """Sizes that are worth several threads, for many clients and for one."""
    for clients, sizes in CASES[operation].large:
        drawn = make(operation, CASES[operation].forms[form] | sizes, clients)
        found = []
        for count in (1, 2, 3):
            with threads(count):
                found.append(deepcopy(drawn).run("native"))
        for other in found[1:]:
            for name, value in found[0].items():
                same(other[name], value)


def _may_be_given(declared: Operation, to: str, operand: str) -> bool:
    """Whether users can pass one tensor for both."""
    one, other = declared[to], declared[operand]
    alike = isinstance(other, Terms) or one.shape == other.shape
    return alike and one.public and other.public and not isinstance(one, InOut)


ALIASES = [
    (operation, form, backend, to, operand)
    for operation, form, backend in PROMISED
    for to, operands in OPERATIONS[operation].writes.items()
    for operand in operands
    if _may_be_given(OPERATIONS[operation], to, operand)
]


@pytest.mark.parametrize(("operation", "form", "backend", "to", "operand"), ALIASES)
def test_written_memory_may_be_an_operands(
    operation: str, form: str, backend: str, to: str, operand: str
) -> None:
    together = make(operation, example(operation, form, backend), 3)
    if together.arguments.get(to) is not None and together.arguments.get(operand) is not None:
        found = untouched(operation, form, backend)
        together.alias(to, operand)
        again = together.run(backend)
        for name in found.keys() - {operand} - SCRATCH.get(operation, set()):
            same(again[name], found[name])


@every_promise
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_client_breaks_no_other(
    operation: str, form: str, bad: float, backend: str
) -> None:
    clients, broken = 3, 1
    call = make(operation, example(operation, form, backend), clients)
    spoiled = call.spoil(broken, bad)
    every = counted(operation, untouched(operation, form, backend)), results(call, backend)
    whole, partly = (of_clients(operation, call, found) for found in every)
    for name, value in whole.items():
        for k in set(range(clients)) - {broken} if len(value) == clients else ():
            same(partly[name][k], value[k])
    if spoiled in ("terms", "client_rows", "rows"):
        assert not all(v[broken].isfinite().all() for v in partly.values())


def test_every_declared_operation_has_forms() -> None:
    """And every optional operand is given in one of them and left out in another."""
    assert CASES.keys() == OPERATIONS.keys()
    for operation, cases in CASES.items():
        calls = [make(operation, form | cases.small[0], 3) for form in cases.forms.values()]
        for item in OPERATIONS[operation].items:
            if item.public and item.optional and item.shape:
                given = {call.arguments.get(item.name) is not None for call in calls}
                assert given == {True, False} or (item.written and True in given), item.name


def test_the_table_in_the_documents_is_current() -> None:
    here = Path(__file__).parent
    assert (here.parent / "docs" / "ops.md").read_text(encoding="utf-8") == markdown(here)
