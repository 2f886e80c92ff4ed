"""Outputs that overlap operands, other outputs or themselves are refused; what lies apart is not.

Whether two tensors share memory is told by sets of addresses, independently of `overlap`.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from fedfast.kernels import PlacedRows, overlap
from fedfast.kernels.declaration import OPERATIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfast import kernels

K = 3


def addresses(t: Tensor) -> set[int]:
    """Bytes of a tensor's elements."""
    places = [0]
    for size, stride in zip(t.shape, t.stride(), strict=True):
        places = [p + i * stride for p in places for i in range(size)]
    start, item = t.data_ptr(), t.element_size()
    return {start + p * item + b for p in places for b in range(item)}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_runs_meet_where_bytes_are_shared(data: st.DataObject) -> None:
    memory = torch.zeros(60)

    def drawn() -> Tensor:
        rows, size = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
        pitch, start = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 15))
        return memory.as_strided((rows, size), (pitch, 1), start)

    a, b = drawn(), drawn()
    assert overlap.runs(a).meets(overlap.runs(b)) == bool(addresses(a) & addresses(b))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_placed_rows_meet_where_bytes_are_shared(data: st.DataObject) -> None:
    memory = torch.zeros(60)

    def drawn(may_be_tensor: bool) -> Tensor | PlacedRows:
        size, pitch = data.draw(st.integers(1, 6)), data.draw(st.integers(6, 9))
        table = memory.as_strided((5, size), (pitch, 1), data.draw(st.integers(0, 15)))
        rows = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
        if may_be_tensor and data.draw(st.booleans()):
            return table[: len(rows)]
        return PlacedRows(table, torch.tensor(rows))

    def touched(rows: Tensor | PlacedRows) -> list[set[int]]:
        if isinstance(rows, Tensor):
            return [addresses(row) for row in rows]
        return [addresses(rows.table[i]) for i in rows.places]

    a, b = drawn(False), drawn(True)
    mine, theirs = touched(a), touched(b)
    here, there = overlap.runs_of(a), overlap.runs_of(b)
    assert overlap.meet(here, there) == bool(set().union(*mine) & set().union(*theirs))
    assert overlap.are_same(here, there) == ([*map(min, mine)] == [*map(min, theirs)]) & (
        a.shape == b.shape
    )
    assert overlap.crosses_itself(here) == (len(set().union(*mine)) < sum(map(len, mine)))


@pytest.mark.parametrize("backend", ["reference", "native"])
def test_placed_rows_that_are_written_are_each_their_own(backend: str) -> None:
    table, w = f(6, 8), f(K, 8)
    came = PlacedRows(table, torch.tensor([0, 1, 2]))
    kept = PlacedRows(table, torch.tensor([5, 4, 3]))
    kernels.step(came, w, 0.1, out=kept, backend=backend)
    kernels.step(came, w, 0.1, out=came, backend=backend)
    for places, other in ([3, 4, 4], "memory of its own"), ([2, 4, 5], "w; got tensors"):
        wrong = PlacedRows(table, torch.tensor(places))
        with pytest.raises(ValueError, match=f"out: expected .*{other}"):
            kernels.step(came, w, 0.1, out=wrong, backend=backend)


def test_placed_rows_name_what_is_wrong() -> None:
    table = f(6, 8)
    with pytest.raises(ValueError, match=r"places: expected numbers in \[0, 6\); got 1 to 6"):
        PlacedRows(table, torch.tensor([1, 6]))
    with pytest.raises(TypeError, match=r"places: expected .*int64; got torch.int32"):
        PlacedRows(table, torch.tensor([1], dtype=torch.int32))
    with pytest.raises(ValueError, match="table: expected"):
        PlacedRows(f(8, 6).T, torch.tensor([1]))
    rows = PlacedRows(table, torch.tensor([1]))
    with pytest.raises(ValueError, match=r"terms\[1\]: expected shape \[3, 8\]"):
        kernels.step(f(K, 8), [f(K, 8), rows], 0.1)
    with pytest.raises(TypeError, match="x: expected a tensor; got PlacedRows"):
        kernels.stats(rows)


def f(*shape: int) -> Tensor:
    return torch.zeros(shape)


def f64(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def ints(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def calls() -> dict[str, dict[str, Any]]:
    """Arguments of every operation, with everything it can write."""
    x, z, w, b = (K, 4, 6), (K, 4, 5), (K, 5, 6), (K, 5)
    image, kernel, made = (K, 2, 2, 4, 4), (K, 3, 2, 3, 3), (K, 2, 3, 2, 2)
    hidden, gates = (K, 2, 3, 4), (K, 2, 3, 16)
    h, drawn = (K, 4, 6), (K, 8, 3)
    sinks = dict(dweight=f(*w), dbias=f(*b), base_weight=f(*w), base_bias=f(*b))
    turned = dict(dweight=f(*kernel), dbias=f(K, 3), base_weight=f(*kernel), base_bias=f(K, 3))
    norm = dict(dweight=f(K, 2), dbias=f(K, 2), base_weight=f(K, 2), base_bias=f(K, 2))
    means = dict(mean=f(K, 2), rstd=f(K, 2))
    grouped = dict(mean=f(K, 2, 2), rstd=f(K, 2, 2))
    ratio = dict(alpha=f(K), beta=f(K))
    lstm = dict(x=f(K, 2, 3, 5), weight_ih=f(K, 16, 5), weight_hh=f(K, 16, 4))
    return {
        "perturb": dict(w=f(K, 8), terms=[f(K, 8)], rho=f(K), norm=f(K), out=f(K, 8)),
        "step": dict(
            w=f(K, 8), terms=[(f(K, 8), f(K))], eta=f(K), w_ref=f(K, 8), lam=f(K), m=f(K, 8),
            momentum=f(K), weight_decay=f(K), clip_norm=f(K), out=f(K, 8),
        ),
        "stats": dict(x=f64(K, 8), y=f64(K, 8), x_ref=f64(K, 8), y_ref=f64(K, 8), out=f64(K, 1, 5)),
        "aggregate": dict(
            client_rows=f64(K, 8), weights=f64(K), base=f64(8), acc=f64(8), w=f64(8), m=f64(8),
            v=f64(8), out=f64(8), server=kernels.Server("adam"),
        ),
        "adam": dict(
            w=f(K, 8), g=f(K, 8), m=f(K, 8), v=f(K, 8), t=f(K), eta=f(K), weight_decay=f(K),
            out=f(K, 8),
        ),
        "mix": dict(x=f(K, 8), y=f(K, 8), a=f(K), b=f(K), out=f(K, 8)),
        "gram": dict(rows=f64(K, 8), base=f64(K, 8), out=f64(K, K)),
        "sensitivity": dict(
            x=f64(K, 8), y=f64(K, 8), segments=kernels.Segments.whole(8), normalize=False,
            out=f64(K, 1),
        ),
        "activation": dict(x=f(*x), kind="tanh", out=f(*x)),
        "activation_backward": dict(x=f(*x), out=f(*x), dout=f(*x), kind="tanh", dx=f(*x)),
        "linear": dict(x=f(*x), weight=f(*w), bias=f(*b), out=f(*z)),
        "linear_backward": dict(
            x=f(*x), weight=f(*w), out=f(*z), dout=f(*z), activation="tanh", dx=f(*x),
            squares=f64(K), **sinks, **ratio,
        ),
        "conv": dict(x=f(*image), weight=f(*kernel), bias=f(K, 3), out=f(*made)),
        "conv_backward": dict(
            x=f(*image), weight=f(*kernel), out=f(*made), dout=f(*made), dx=f(*image),
            squares=f64(K), **turned, **ratio,
        ),
        "conv_pool": dict(
            x=f(*image), weight=f(*kernel), bias=f(K, 3), kernel=2, out=f(K, 2, 3, 1, 1),
            tap=ints(K, 2, 3, 1, 1, dtype=torch.uint8),
        ),
        "conv_pool_backward": dict(
            x=f(*image), weight=f(*kernel), out=f(K, 2, 3, 1, 1), dout=f(K, 2, 3, 1, 1), kernel=2,
            tap=ints(K, 2, 3, 1, 1, dtype=torch.uint8), dx=f(*image), squares=f64(K), **turned,
            **ratio,
        ),
        "pick": dict(
            x=f(*image), kernel=2, tap=ints(K, 2, 2, 2, 2, dtype=torch.uint8), out=f(K, 2, 2, 2, 2)
        ),
        "pool": dict(
            x=f(*image), kind="max", kernel=2, out=f(K, 2, 2, 2, 2),
            argmax=ints(K, 2, 2, 2, 2, dtype=torch.int32),
        ),
        "pool_backward": dict(
            dout=f(K, 2, 2, 2, 2), kind="max", kernel=2, dx=f(*image),
            argmax=ints(K, 2, 2, 2, 2, dtype=torch.int32),
        ),
        "adaptive_avg": dict(x=f(*image), output_size=2, out=f(K, 2, 2, 2, 2)),
        "adaptive_avg_backward": dict(dout=f(K, 2, 2, 2, 2), dx=f(*image)),
        "batch_norm": dict(
            x=f(*image), weight=f(K, 2), bias=f(K, 2), running_mean=f(K, 2), running_var=f(K, 2),
            out=f(*image), **means,
        ),
        "batch_norm_backward": dict(
            x=f(*image), weight=f(K, 2), dout=f(*image), dx=f(*image), **means, **norm, **ratio
        ),
        "group_norm": dict(
            x=f(*image), groups=2, weight=f(K, 2), bias=f(K, 2), out=f(*image), **grouped
        ),
        "group_norm_backward": dict(
            x=f(*image), groups=2, weight=f(K, 2), dout=f(*image), dx=f(*image), **grouped, **norm,
            **ratio,
        ),
        "dropout": dict(x=f(*x), p=0.5, seeds=ints(K), out=f(*x)),
        "embedding": dict(token=ints(K, 4), weight=f(K, 6, 5), out=f(K, 4, 5)),
        "embedding_backward": dict(
            token=ints(K, 4), dout=f(K, 4, 5), dweight=f(K, 6, 5), base_weight=f(K, 6, 5), **ratio
        ),
        "log_softmax": dict(x=f(*x), out=f(*x)),
        "log_softmax_backward": dict(out=f(*x), dout=f(*x), dx=f(*x)),
        "kl_gradient": dict(
            logits=f(*x), before=f(*x), count=torch.ones(K, dtype=torch.int32), out=f(*x)
        ),
        "sample_gaussian": dict(
            h=f(*h), noise=f(*drawn), targets=ints(K, 4), count=ints(K, dtype=torch.int32),
            z=f(*drawn), labels=ints(K, 8), counts=ints(K, dtype=torch.int32),
        ),
        "sample_gaussian_backward": dict(
            h=f(*h), noise=f(*drawn), dz=f(*drawn), targets=ints(K, 4),
            count=ints(K, dtype=torch.int32), mean=f(K, 6, 3), spread=f(K, 6, 3), losses=f(K),
            dh=f(*h),
        ),
        "sum_gaussians": dict(
            h=f(*h), targets=ints(K, 4), count=ints(K, dtype=torch.int32), last=f(K),
            precision=f(K, 6, 3), pull=f(K, 6, 3),
        ),
        "cross_entropy": dict(
            logits=f(*z), targets=ints(K, 4), count=ints(K, dtype=torch.int32), losses=f(K),
            dlogits=f(*z),
        ),
        "joined": dict(
            x=f64(*x), d=f64(*z), add_weight=f64(*w), add_bias=f64(*b), known=[f64(K, 2)],
            added=[f64(K, 1)], limit=1.0, squares=f64(K),
        ),
        "layer_reach": dict(rho=f(K, 4), squares=[f64(K, 2)], eps=1.0, out=f(4, K)),
        "ghost": dict(x=f64(*x), d=f64(*z), gram=f64(K, 4, 4), squares=f64(K)),
        "lowrank": dict(
            x=f(*x), u=f(*x), v=f(*z), scale=f(K), base=f(*z), gram=f(K, 4, 4), out=f(*z)
        ),
        "lstm": dict(
            **lstm, bias_ih=f(K, 16), bias_hh=f(K, 16), gates=f(*gates), cells=f(*hidden),
            out=f(*hidden),
        ),
        "lstm_backward": dict(
            **lstm, gates=f(*gates), cells=f(*hidden), out=f(*hidden), dout=f(*hidden),
            dx=f(K, 2, 3, 5), dweight_ih=f(K, 16, 5), dweight_hh=f(K, 16, 4), dbias_ih=f(K, 16),
            dbias_hh=f(K, 16), base_weight_ih=f(K, 16, 5), base_weight_hh=f(K, 16, 4),
            base_bias_ih=f(K, 16), base_bias_hh=f(K, 16), **ratio,
        ),
        "gather": dict(bank=f(9, 5), rows=ints(K, 2), out=f(K, 2, 5)),
    }  # fmt: skip


def written(operation: str) -> list[str]:
    return [name for name in OPERATIONS[operation].writes if name in calls()[operation]]


def first(value: Any) -> Any:
    """An argument's tensor: its own, or that of the first term."""
    while isinstance(value, (list, tuple)):
        value = value[0]
    return value


def put(value: Any, t: Tensor) -> Any:
    """The argument with that tensor in the place of its first."""
    if isinstance(value, tuple):
        return (put(value[0], t), *value[1:])
    return [put(value[0], t), *value[1:]] if isinstance(value, list) else t


def at(memory: Tensor, byte: int, like: Tensor) -> Tensor:
    """A tensor like `like` whose memory starts at that byte."""
    return memory[byte : byte + like.nbytes].view(like.dtype).view(like.shape)


PAIRS = [
    (operation, to, other)
    for operation, given_ in calls().items()
    for to, other in product(written(operation), given_)
    if to != other and isinstance(first(given_[other]), Tensor)
]


@pytest.mark.parametrize(("operation", "to", "other"), PAIRS)
@pytest.mark.parametrize("ahead", [False, True])
def test_a_shifted_operand_is_refused(operation: str, to: str, other: str, ahead: bool) -> None:
    inputs = calls()[operation]
    out, operand = inputs[to], first(inputs[other])
    memory = torch.zeros(8 + out.nbytes + operand.nbytes, dtype=torch.uint8)
    inputs[to] = at(memory, 8 if ahead else 0, out)
    inputs[other] = put(inputs[other], at(memory, 0 if ahead else 8, operand))
    with pytest.raises(ValueError, match="expected .*memory") as said:
        getattr(kernels, operation)(**inputs)
    assert to in str(said.value) and other in str(said.value)


@pytest.mark.parametrize("operation", list(calls()))
def test_memory_apart_is_fine(operation: str) -> None:
    inputs = calls()[operation]
    memory, byte = torch.zeros(1 << 16, dtype=torch.uint8), 0
    for name, value in inputs.items():
        if isinstance(first(value), Tensor):
            inputs[name] = put(value, at(memory, byte, first(value)))
            byte += -(-first(value).nbytes // 8) * 8
    getattr(kernels, operation)(**inputs)


def test_columns_of_one_bank_lie_apart() -> None:
    bank = torch.randn(K, 10)
    expected = 2 * bank[:, :5] + bank[:, :5]
    kernels.mix(bank[:, :5], bank[:, :5].clone(), 2.0, out=bank[:, 5:])
    assert torch.equal(bank[:, 5:], expected)
    with pytest.raises(ValueError, match="out: expected .*x"):
        kernels.mix(bank[:, :5], bank[:, 5:].clone(), out=bank[:, 4:9])


@pytest.mark.parametrize("pitch", [0, 1, 7])
def test_rows_that_overlap_each_other_cannot_be_written(pitch: int) -> None:
    out = torch.zeros(64).as_strided((K, 8), (pitch, 1))
    with pytest.raises(ValueError, match="out"):
        kernels.mix(torch.zeros(K, 8), torch.zeros(K, 8), out=out)


def test_every_operation_is_tried() -> None:
    assert set(calls()) == set(OPERATIONS) - {"reach"}
