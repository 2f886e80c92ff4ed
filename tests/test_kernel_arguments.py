"""Tables, counts and numbers that would reach memory of others are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedfast.kernels import (
    Counted,
    Lanes,
    Plan,
    Segments,
    Server,
    Soon,
    feed,
    gather,
    mix,
    native,
    tally,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfast import kernels

K, T, B = 3, 4, 5
INT = torch.int32


def table(**changes: Any) -> dict[str, Any]:
    good = dict(
        offset=torch.tensor([0, 4], dtype=INT),
        length=torch.tensor([4, 2], dtype=INT),
        is_weight=torch.tensor([True, False]),
    )
    return good | changes


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        (dict(offset=[0, 4]), TypeError, "offset"),
        (dict(length=None), TypeError, "length"),
        (dict(offset=torch.tensor([0, 4])), TypeError, "offset"),
        (dict(length=torch.tensor([4.0, 2.0])), TypeError, "length"),
        (dict(is_weight=torch.tensor([1, 0], dtype=torch.uint8)), TypeError, "is_weight"),
        (dict(length=torch.tensor([4], dtype=INT)), ValueError, "length"),
        (dict(is_weight=torch.tensor([[True, False]])), ValueError, "is_weight"),
        (dict(offset=torch.tensor([0, 9, 4, 9], dtype=INT)[::2]), ValueError, "offset"),
        (dict(is_weight=torch.ones(2, dtype=torch.bool, device="meta")), ValueError, "is_weight"),
        (dict(offset=torch.tensor([4, 0], dtype=INT)), ValueError, "offset|length"),
        (dict(offset=torch.tensor([-1, 4], dtype=INT)), ValueError, "offset|length"),
        (dict(length=torch.tensor([5, 2], dtype=INT)), ValueError, "offset|length"),
        (dict(length=torch.tensor([4, -2], dtype=INT)), ValueError, "offset|length"),
        (dict(length=torch.tensor([4, 2**31 - 1], dtype=INT)), ValueError, "offset|length"),
    ],
)
def test_a_table_made_by_hand_is_checked(changes: Any, error: Any, named: str) -> None:
    assert Segments(**table()).end == 6
    with pytest.raises(error, match=named):
        Segments(**table(**changes))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 2**31 - 1), st.integers(-3, 2**31 - 1)), max_size=4))
def test_any_table_is_right_or_refused(pieces: list[tuple[int, int]]) -> None:
    ends, fine = 0, True
    for offset, length in pieces:
        fine = fine and offset >= ends and length >= 0 and offset + length < 2**31
        ends = offset + length
    columns = [torch.tensor([p[i] for p in pieces], dtype=INT) for i in (0, 1)]
    flags = torch.ones(len(pieces), dtype=torch.bool)
    if fine:
        assert Segments(*columns, flags).end == (ends if pieces else 0)
    else:
        with pytest.raises(ValueError, match="offset|length"):
            Segments(*columns, flags)


def test_segments_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="segments: expected Segments; got dict"):
        kernels.stats(torch.zeros(2, 6), segments=table())
    with pytest.raises(ValueError, match="segments"):
        kernels.stats(torch.zeros(2, 5), segments=Segments(**table()))
    with pytest.raises(ValueError, match="segments|offset|length"):
        Segments.of([0], [2**31])


@pytest.mark.parametrize("name", ["lr", "beta1", "beta2", "tau"])
def test_a_server_has_finite_numbers(name: str) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=name):
            Server("adam", **{name: value})
    for wrong in (None, "1", torch.ones(2), True):
        with pytest.raises(TypeError, match=name):
            Server("adam", **{name: wrong})


def recorded(rows: Any = None) -> tuple[Plan, torch.Tensor]:
    x, out = torch.randn(K, 8), torch.zeros(K, 8)
    with Plan() as plan:
        mix(x, x, out=out)
        if rows is not None:
            feed(**fed(rows=rows))
    return plan, out


def fed(**changes: Any) -> dict[str, Any]:
    good = dict(
        rows=torch.zeros(K * T, B, dtype=torch.int64),
        count=torch.zeros(K * T, dtype=INT),
        rows_now=torch.zeros(K, B, dtype=torch.int64),
        count_now=torch.zeros(K, dtype=INT),
    )
    return good | changes


@pytest.mark.parametrize("clients", [-1, K + 1, 10**7, 2**62])
def test_a_run_is_for_the_clients_recorded(clients: int) -> None:
    plan, out = recorded()
    with pytest.raises(ValueError, match=f"clients: expected 0 to {K}"):
        plan.run(clients, 8)
    assert not out.any()
    plan.run(K, 8)
    assert out.any()


@pytest.mark.parametrize("elements", [-1, 2**41, 2**62])
def test_a_run_has_a_sensible_size(elements: int) -> None:
    with pytest.raises(ValueError, match="elements"):
        recorded()[0].run(K, elements)


def test_an_empty_plan_runs_nothing() -> None:
    Plan().run(10**7, 8)


LINES = torch.arange(T + 1) * K  # all K clients take T steps


@pytest.mark.parametrize(
    ("offsets", "error"),
    [
        (torch.arange(T + 2) * K, ValueError),
        (torch.tensor([0, K + 1]), ValueError),
        (torch.tensor([1, K]), ValueError),
        (torch.tensor([0, 2, 5]), ValueError),
        (torch.tensor([0, 2, 2]), ValueError),
        (torch.tensor([0, -1]), ValueError),
        (torch.tensor([], dtype=torch.int64), ValueError),
        (LINES[:, None], ValueError),
        (LINES.repeat(2)[::2], ValueError),
        (LINES.to("meta"), ValueError),
        (LINES.to(INT), TypeError),
        (LINES.tolist(), TypeError),
        (None, TypeError),
    ],
)
def test_steps_are_those_that_were_fed(offsets: Any, error: Any) -> None:
    plan = recorded(rows=fed()["rows"])[0]
    with pytest.raises(error, match="offsets|clients"):
        plan.run_steps(plan, offsets, 8)
    plan.run_steps(plan, LINES, 8)
    with pytest.raises(TypeError, match="rest"):
        plan.run_steps(None, LINES, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("rows", torch.zeros(K * T - 1, B, dtype=torch.int64), ValueError),
        ("rows", torch.zeros(K * T, B + 1, dtype=torch.int64), ValueError),
        ("rows", torch.zeros(K * T, B), TypeError),
        ("models", torch.zeros(K - 1, 3), ValueError),
    ],
)
def test_what_is_fetched_ahead_is_all_lines_and_clients(name: str, value: Any, error: Any) -> None:
    plan = recorded(rows=fed()["rows"])[0]
    counted = Counted(torch.ones(K * T, dtype=INT), B)
    rows = torch.zeros(K * T, B, dtype=torch.int64)
    soon = Soon(torch.zeros(5, 4), rows, torch.zeros(K, 3))
    with pytest.raises(error, match=f"soon.{name}"):
        plan.run_steps(plan, LINES, 8, counted, soon._replace(**{name: value}))
    plan.run_steps(plan, LINES, 8, counted, soon)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("rows", [torch.zeros(K, 3), torch.zeros(K - 1, 3)], ValueError),
        ("rows", [torch.zeros(3).expand(K, 3)], ValueError),
        ("fill", lambda: None, TypeError),
        ("alike", torch.zeros(K - 1, dtype=torch.int64), ValueError),
        ("alike", torch.zeros(K), TypeError),
    ],
)
def test_rows_of_threads_are_as_many_as_clients(name: str, value: Any, error: Any) -> None:
    plan = recorded()[0]
    lanes = Lanes([torch.zeros(K, 3)], None)
    with pytest.raises(error, match=f"lanes.{name}"):
        plan.run_steps(plan, LINES, 8, lanes=lanes._replace(**{name: value}))
    plan.run_steps(plan, LINES, 8, lanes=lanes)


@pytest.mark.parametrize("count", [None, torch.ones(K), torch.ones(K - 1, dtype=INT)])
def test_counts_are_those_of_all_batches(count: Any) -> None:
    plan, out = recorded()
    with pytest.raises((TypeError, ValueError), match="count"):
        plan.run(K, 8, Counted(count, B))
    with pytest.raises(ValueError, match="width"):
        plan.run(K, 8, Counted(torch.ones(K, dtype=INT), -1))
    assert not out.any()


def test_a_plan_that_dies_while_it_records_is_forgotten() -> None:
    plan = native.module.Plan()
    plan.begin()
    del plan
    x = torch.ones(1, 2)
    assert torch.equal(mix(x, x), 2 * x)


@pytest.mark.parametrize("name", list(fed()))
def test_feed_is_checked(name: str) -> None:
    t = fed()[name]
    more = torch.cat([t, t]) if name in ("rows", "rows_now") else t[:2]  # or fewer than others
    wrong = [None, t.double(), more, t[..., None], t.to("meta")]
    if t.ndim > 1:
        wrong.append(t.transpose(-1, -2).contiguous().transpose(-1, -2)[..., ::2])
        wrong.append(torch.zeros(*t.shape[:-1], 2 * t.shape[-1], dtype=t.dtype)[..., ::2])
    for value in wrong:
        with Plan(), pytest.raises((TypeError, ValueError), match=r"rows|count"):
            feed(**fed(**{name: value}))


@pytest.mark.parametrize("name", ["losses", "count", "total"])
def test_tally_is_checked(name: str) -> None:
    good = dict(losses=torch.ones(K), count=torch.ones(K, dtype=INT), total=torch.ones(K).double())
    t = good[name]
    other_k = torch.cat([t, t]) if name == "losses" else t[:2]
    wrong = [None, t.to(torch.int64), other_k, t[:, None], t.to("meta"), t.repeat(2)[::2]]
    wrong += [t.float()] if name == "total" else []
    for value in wrong:
        with Plan(), pytest.raises((TypeError, ValueError), match=r"losses|count|total"):
            tally(**(good | {name: value}))


@pytest.mark.parametrize("row", [-1, 7, 2**62, -(2**63)])
def test_a_row_out_of_range_is_told(row: int) -> None:
    with pytest.raises(IndexError):
        gather(torch.zeros(7, 3), torch.tensor([[0, row]]))


@pytest.mark.parametrize("target", [-1, 4, 2**62, -(2**63)])
def test_a_label_out_of_range_is_told(target: int) -> None:
    with pytest.raises(IndexError):
        kernels.cross_entropy(
            torch.zeros(1, 2, 4), torch.tensor([[0, target]]), torch.tensor([2], dtype=INT)
        )
    with pytest.raises(IndexError):
        kernels.embedding(torch.tensor([[0, target]]), torch.zeros(1, 4, 3))


BANK, IMAGES = torch.zeros(2, 4), torch.zeros(2, 1, 1, 3, 3)
SEEDS = torch.zeros(2, dtype=torch.int64)
SCALARS: dict[str, Any] = {
    "mix": lambda a: mix(BANK, BANK, a),
    "dropout": lambda p: kernels.dropout(BANK, p, SEEDS),
    "activation": lambda slope: kernels.activation(BANK, "relu", slope=slope),
    "ghost": lambda ones: kernels.ghost(BANK[..., None], BANK[..., None], ones=ones),
    "step": lambda nesterov: kernels.step(BANK, BANK, 0.1, nesterov=nesterov),
    "conv": lambda stride: kernels.conv(IMAGES, IMAGES, stride=stride),
    "embedding_backward": lambda padding: kernels.embedding_backward(
        SEEDS[:, None], torch.zeros(2, 1, 3), dweight=torch.zeros(2, 4, 3), padding=padding
    ),
    "reach": lambda squares: kernels.reach(squares, 1.0, 0.0, out=torch.zeros(2)),
}


@pytest.mark.parametrize(
    ("operation", "value", "error", "message"),
    [
        ("mix", "3", TypeError, r"a: expected a number or a tensor \[K\]; got str"),
        ("mix", True, TypeError, r"a: expected a number or a tensor \[K\]; got bool"),
        ("mix", torch.zeros(2, device="meta"), ValueError, "a: expected device cpu; got meta"),
        ("mix", 10**400, ValueError, "a: expected a number that a float can hold"),
        ("dropout", None, TypeError, "p: expected a number; got None"),
        ("activation", "x", TypeError, "slope: expected a number; got str"),
        ("ghost", None, TypeError, "ones: expected a number; got None"),
        ("step", 3, TypeError, "nesterov: expected a bool; got int"),
        ("conv", True, ValueError, "stride: expected an int or a pair of ints .* got True"),
        ("conv", None, ValueError, "stride: expected an int or a pair of ints .* got None"),
        ("conv", 2**31, ValueError, "stride: expected an int .* got 2147483648"),
        ("embedding_backward", 2**70, ValueError, "padding: expected an int <= .*; got 1180"),
        ("embedding_backward", "x", TypeError, "padding: expected an int; got str"),
        ("reach", None, TypeError, "squares: expected a sequence of tensors; got None"),
    ],
)
def test_a_scalar_of_another_kind_is_refused_by_name(
    operation: str, value: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        SCALARS[operation](value)
