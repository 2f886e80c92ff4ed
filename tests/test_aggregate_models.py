"""`fedfast.aggregate` beside the same mean in float64 numbers of torch."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fedfast

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def net():
    return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3))


def states(count, seed=0):
    torch.manual_seed(seed)
    found = [net().state_dict() for _ in range(count)]
    for k, state in enumerate(found):
        state["1.num_batches_tracked"] += 3 * k
    return found


def exact(tensors, weights):
    """The mean, float64."""
    total = math.fsum(weights)
    return sum(t.double() * (w / total) for t, w in zip(tensors, weights, strict=True))


def assert_rounded_once(found, tensors, weights):
    """Within one unit in the last place; float64 sums may differ in the last bits themselves."""
    wanted, dtype = exact(tensors, weights), found.dtype
    size = sum(t.double().abs() * w for t, w in zip(tensors, weights, strict=True)) / sum(weights)
    unit = torch.finfo(dtype).eps * wanted.abs() + 1e-15 * size + torch.finfo(dtype).tiny
    assert bool(((found.double() - wanted).abs() <= unit).all())


@settings(max_examples=40, deadline=None)
@given(
    weights=st.lists(st.floats(0, 1e6), min_size=1, max_size=12).filter(lambda w: max(w) > 1e-6),
    dtype=st.sampled_from(DTYPES),
    shape=st.sampled_from([(), (3,), (40_000,), (7, 2, 3), (0, 4)]),
    seed=st.integers(0, 99),
)
def test_tensors_and_banks(weights, dtype, shape, seed):
    generator = torch.Generator().manual_seed(seed)
    bank = torch.randn(len(weights), *shape, generator=generator).to(dtype)
    for models in (bank, list(bank), tuple(bank.clone())):
        found = fedfast.aggregate(models, weights)
        assert found.dtype == dtype and found.shape == shape
        assert_rounded_once(found, list(bank), weights)


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e300])
@pytest.mark.parametrize("kind", [list, np.array, torch.DoubleTensor, iter])
def test_weights_of_any_scale_and_kind(scale, kind):
    models, weights = states(4), [3.0, 0.5, 2.0, 1.25]
    found = fedfast.aggregate(models, kind([w * scale for w in weights]))
    for name in ("0.weight", "1.running_var", "2.bias"):
        assert_rounded_once(found[name], [m[name] for m in models], weights)


def test_a_mean_of_equal_models_is_that_model():
    model = states(1)[0]
    for weights in ([1.0] * 7, [600, 599, 17, 3, 1, 1, 2], None):
        found = fedfast.aggregate([model] * 7, weights)
        assert found.keys() == model.keys()
        assert all(torch.equal(found[name], model[name]) for name in model)


def test_counters_are_cast_as_load_state_dict_does():
    counts, weights = [3, 3, 5], [0.1, 0.2, 0.3]
    for dtype in (torch.int64, torch.int32, torch.uint8):
        models = [dict(n=torch.tensor(c, dtype=dtype)) for c in counts]
        holder = nn.Module()
        holder.register_buffer("n", torch.zeros((), dtype=dtype))
        holder.load_state_dict({"n": exact([m["n"] for m in models], weights)})
        found = fedfast.aggregate(models, weights)["n"]
        assert found == holder.n == 4 and found.dtype == dtype
    assert fedfast.aggregate([torch.tensor(3)] * 3, [0.1, 0.2, 0.3]) == 3
    assert fedfast.aggregate([torch.tensor(-3)] * 3, [0.1, 0.2, 0.3]) == -3
    flags = [torch.tensor([True, False]), torch.tensor([False, False])]
    assert fedfast.aggregate(flags).tolist() == [True, False]


def test_the_result_trains_on():
    models = states(3)
    module = net()
    module.load_state_dict(fedfast.aggregate(models, [1, 2, 3]))
    module(torch.randn(4, 5)).sum().backward()
    assert module[1].num_batches_tracked == (0 + 3 * 2 + 6 * 3) // 6 + 1


def test_mixed_dtypes_and_order():
    models = [dict(a=torch.randn(3).half(), b=torch.randn(2).double()) for _ in range(3)]
    found = fedfast.aggregate([dict(reversed(m.items())) if k else m for k, m in enumerate(models)])
    wanted = fedfast.aggregate(models)
    assert [*found] == ["a", "b"] and found["a"].dtype == torch.float16
    assert all(torch.equal(found[n], wanted[n]) for n in wanted)


def test_tied_tensors_stay_tied_where_all_are():
    def model(tied):
        a = torch.randn(4)
        return dict(a=a, b=a if tied else a + 1.0)

    both = fedfast.aggregate([model(True), model(True)])
    assert both["a"] is both["b"]
    some = fedfast.aggregate([model(True), model(False)])
    torch.testing.assert_close(some["b"], some["a"] + 0.5)


def test_strided_tensors_and_gradients():
    x = torch.randn(2, 6, 4).mT
    assert torch.equal(fedfast.aggregate(x), fedfast.aggregate(list(x.contiguous())))
    parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))]
    found = fedfast.aggregate(parameters)
    assert not found.requires_grad and found.tolist() == [0.5] * 3
    one = torch.ones(3)
    assert fedfast.aggregate([one]).data_ptr() != one.data_ptr()


def test_a_model_of_weight_zero_is_not_read():
    bank = torch.tensor([[1.0, 2.0], [math.nan, math.inf]])
    for models in (bank, list(bank)):
        assert fedfast.aggregate(models, [5, 0]).tolist() == [1.0, 2.0]
        assert fedfast.aggregate(models, [5, 1]).isfinite().tolist() == [False, False]


def test_what_a_cohort_returns():
    rows = torch.randn(3, 4)
    update = SimpleNamespace(
        ids=torch.arange(3),
        samples=torch.tensor([10, 20, 30]),
        state_dict=lambda j: {"w": rows[j].view(2, 2)},
    )
    wanted = fedfast.aggregate(rows, [1, 2, 3]).view(2, 2)
    assert torch.equal(fedfast.aggregate(update)["w"], wanted)
    assert torch.equal(
        fedfast.aggregate(update, [1, 1, 1])["w"], rows.view(3, 2, 2).double().mean(0).float()
    )


def test_a_cohort_of_ours():
    data = fedfast.FederatedData.from_arrays(
        [torch.randn(n, 5) for n in (3, 6)], [torch.zeros(n, dtype=torch.int64) for n in (3, 6)]
    )
    cohort = fedfast.Cohort(net(), data, batch_size=3)
    update = cohort.train()
    found = fedfast.aggregate(update)
    two = [update.state_dict(j) for j in range(2)]
    for name in ("0.weight", "1.running_mean", "2.bias"):
        assert_rounded_once(found[name], [s[name] for s in two], [3.0, 6.0])
    assert found["1.num_batches_tracked"] == (1 * 3 + 2 * 6) // 9


A, B = dict(w=torch.zeros(2), b=torch.zeros(1)), dict(w=torch.zeros(2))
REFUSED = [
    (([A, B],), ValueError, "models[1]: expected the names of models[0]; without 'b'"),
    (([B, A],), ValueError, "models[1]: expected the names of models[0]; with 'b'"),
    (
        ([B, dict(w=torch.zeros(3))],),
        ValueError,
        "models[1]['w']: expected shape [2] as in models[0]; got [3]",
    ),
    (([B, dict(w=torch.zeros(2).half())],), ValueError, "expected torch.float32 as in models[0]"),
    (([dict(w=1.0)],), TypeError, "models[0]['w']: expected a tensor; got float"),
    (([net()],), TypeError, "models[0]: expected a state dict (its state_dict()); got Sequential"),
    (([torch.zeros(2), None],), TypeError, "models[1]: expected a tensor as models[0]; got None"),
    (([torch.zeros(2).cfloat()],), TypeError, "models[0]: expected a dense tensor of real numbers"),
    (
        (A,),
        TypeError,
        "models: expected a sequence of state dicts or tensors, or a tensor [K, ...]",
    ),
    (([],), ValueError, "models: expected at least one; got none"),
    ((torch.zeros(0, 3),), ValueError, "models: expected a tensor [K, ...], K >= 1; got [0, 3]"),
    (([B, B], [1.0]), ValueError, "weights: expected one for each of 2 models; got 1"),
    (([B, B], [1.0, -1.0]), ValueError, "weights[1]: expected a finite number >= 0; got -1.0"),
    (([B, B], [1.0, math.nan]), ValueError, "weights[1]: expected a finite number >= 0; got nan"),
    (([B, B], [math.inf, 1.0]), ValueError, "weights[0]: expected a finite number >= 0; got inf"),
    (([B, B], [0, 0]), ValueError, "weights: expected at least one above 0; got zeros"),
    (([B, B], 2.0), TypeError, "weights: expected one number for each model; got 2.0"),
    (([B, B], ["1", 2]), TypeError, "weights[0]: expected a number; got '1'"),
]


@pytest.mark.parametrize("args, error, text", REFUSED)
def test_refused(args, error, text):
    with pytest.raises(error, match=re.escape(text)):
        fedfast.aggregate(*args)
