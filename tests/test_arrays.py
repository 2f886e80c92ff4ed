"""Arrays of any strides, byte order and type: dense copies mean the same, all else is named."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedfast import Simulation
from fedfast.data import FederatedData, as_samples, dirichlet, iid
from fedfast.data.tensors import as_dense

RNG = np.random.default_rng(3)
IMAGES = torch.from_numpy(RNG.normal(size=(24, 6, 5, 3)).astype(np.float32))
LABELS = torch.arange(24) % 4
NCHW = IMAGES.permute(0, 3, 1, 2).contiguous()


def views(x):
    """The same numbers as tensors and arrays that lie otherwise in memory."""
    last = torch.empty(*x.shape, 2, dtype=x.dtype)
    last[..., 1] = x
    yield last[..., 1]
    yield x.movedim(1, -1).contiguous().movedim(-1, 1)
    if x.ndim == 4:
        yield x.to(memory_format=torch.channels_last)
    yield torch._neg_view(-x)
    yield torch.complex(torch.zeros_like(x), -x).conj().imag
    yield x.clone().requires_grad_()
    yield torch.nn.Parameter(x.clone())
    yield np.asfortranarray(x.numpy())
    yield x.numpy()[::-1].copy()[::-1]
    yield x.numpy().astype(x.numpy().dtype.newbyteorder(">"))
    yield np.ma.masked_array(x.numpy())
    yield x.numpy().astype(object)
    frozen = x.numpy().copy()
    frozen.setflags(write=False)
    yield frozen
    with torch.inference_mode():
        inferred = x.clone()
    yield inferred


def label_views(y):
    strided = torch.stack([-y, y], 1)
    yield from (strided[:, 1], torch._neg_view(-y), y.flip(0).flip(0), y.to(torch.int8))
    yield from (y.numpy().astype(">i8"), y.numpy().astype(object), y.numpy().astype(np.uint64))
    yield from (y.to(torch.uint8), y.numpy().astype(np.uint16), y.numpy()[::-1].copy()[::-1])


def net():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, 4)]
    return torch.nn.Sequential(*layers)


def trained(clients, test=None):
    sim = Simulation(net(), clients, rounds=2, participation=1.0, batch_size=3, test=test)
    sim.run(progress=False)
    return torch.cat([t.flatten() for t in sim.state_dict().values()]), sim


def halves(x, y):
    return FederatedData.from_arrays([x[:12], x[12:]], [y[:12], y[12:]])


def same(found, expected):
    assert found.is_contiguous() and not found.is_neg() and not found.requires_grad
    assert torch.equal(found, expected)


def test_every_view_is_made_plain_at_every_entry():
    for x, y in zip(views(NCHW), list(label_views(LABELS)) * 2, strict=False):
        found = as_samples((x, y))
        same(found.x, NCHW)
        same(found.y, LABELS)
        data = halves(x, y)
        same(data.x, NCHW)
        same(data.with_test([(x, y), (x, y)]).test[1].x, NCHW)
        same(FederatedData.from_index((x, y), [range(24)]).x, NCHW)
        same(iid((x, y), 3).x, NCHW)


def test_views_train_as_their_copies_bit_for_bit():
    whole, sim = trained(halves(NCHW, LABELS), (NCHW, LABELS))
    score = sim.evaluate((NCHW, LABELS))
    for x in views(NCHW):
        weights, run = trained(halves(x, LABELS), (x, LABELS))
        assert torch.equal(weights, whole) and run.history[-1].loss == sim.history[-1].loss
        assert run.evaluate((x, LABELS)) == score


def test_a_bank_made_by_hand_trains_alike():
    """`FederatedData` is a public class: its tensors may be views too."""
    whole, _ = trained(halves(NCHW, LABELS))
    made = halves(NCHW, LABELS)
    for x in (NCHW.to(memory_format=torch.channels_last), torch._neg_view(-NCHW)):
        hand = FederatedData(x, made.y, made.order, made.offsets, made.sizes)
        assert torch.equal(trained(hand)[0], whole)


NUMBERS = st.sampled_from(
    [*(f"{order}{kind}{n}" for order in "<>" for kind in "iu" for n in (1, 2, 4, 8)), "<f2", ">f2",
     "<f4", ">f4", "<f8", ">f8"]
)  # fmt: skip


@st.composite
def laid_out(draw):
    """An array of any type, then transposed, sliced, reversed or repeated by strides of 0."""
    dtype = np.dtype(draw(NUMBERS))
    small = {"min_value": 0, "max_value": 100} if dtype.kind in "iu" else {}
    elements = arrays.from_dtype(dtype, allow_nan=False, allow_infinity=False, **small)
    array = draw(
        arrays.arrays(dtype, arrays.array_shapes(max_dims=4, max_side=4), elements=elements)
    )
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    cuts = [slice(None, None, draw(st.sampled_from([1, -1, 2, -2]))) for _ in range(array.ndim)]
    array = array[tuple(cuts)]
    return np.broadcast_to(array, (2, *array.shape)) if draw(st.booleans()) else array


@settings(max_examples=200, deadline=None)
@given(laid_out())
def test_any_layout_is_its_contiguous_copy(array):
    copy = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="))
    found = as_dense(array, "x")
    assert found.is_contiguous() and found.shape == array.shape
    assert found.numpy().tobytes() == copy.astype(found.numpy().dtype).tobytes()
    view = torch.from_numpy(np.array(copy.astype(found.numpy().dtype)))
    turned = view.permute(*reversed(range(view.ndim)))
    assert torch.equal(as_dense(turned, "x"), turned.clone(memory_format=torch.contiguous_format))
    assert as_dense(array, "x").numpy().tobytes() == found.numpy().tobytes()


def odd_inputs():
    x = torch.zeros(4, 3)
    masked = np.ma.masked_array(x.numpy(), mask=np.eye(4, 3))
    ragged = np.empty(4, dtype=object)
    ragged[:] = [[1.0], [1.0, 2.0], [3.0], [4.0]]
    yield from (x.to_sparse(), x.to_sparse_csr(), x.to(torch.complex64), x.to("meta"))
    yield torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)
    yield torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    yield from (x.to(torch.float8_e4m3fn), x > 0, x.numpy() > 0, masked, ragged)
    yield from (np.zeros(4, dtype=[("a", "f4")]), np.array([["a"]] * 4), np.array([[b"a"]] * 4))
    yield from (np.zeros((4, 3), "M8[s]"), np.zeros((4, 3), "m8[s]"), np.full((4, 3), None))
    yield from (np.zeros((4, 3), np.longdouble), np.zeros((4, 3), np.complex128))
    yield from (
        np.full((4, 3), 2**63, np.uint64),
        np.full((4, 3), 10**30),
        [[1.0]] * 4,
        "abcd",
        None,
    )
    yield from (np.float32(1.0), torch.tensor(1.0), {"a": 1}, {1.0, 2.0}, iter([1.0]), object())


@pytest.mark.filterwarnings("ignore")  # prototypes of torch
def test_what_is_not_plain_numbers_is_named():
    y = torch.arange(4)
    for x in odd_inputs():
        for call in (
            lambda x=x: as_samples((x, y), "train"),
            lambda x=x: iid((x, y), 2),
            lambda x=x: FederatedData.from_arrays([x, x], [y, y]),
            lambda x=x: FederatedData.from_index((x, y), [[0], [1]]),
            lambda x=x: halves(NCHW, LABELS).with_test([(x, y), (x, y)]),
        ):
            with pytest.raises(
                (TypeError, ValueError), match=r"^(train|samples|client 0|test.0.)\.x: "
            ):
                call()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([0.0, 1.0, 2.0, 1.0]), "expected integer class labels; got torch.float64"),
        (np.array([0.0, 1.0, np.nan, 1.0]), "expected integer class labels"),
        (np.array([0, 1, -100, 1]), "expected labels >= 0; sample 2 has -100"),
        (np.array([0, 1, 2**31, 1]), "expected class labels below 16,777,216; sample 2"),
        (np.array([0, 2**62, 0, 1]), "expected class labels below 16,777,216; sample 1 has"),
        (np.array([0, 2**63, 0, 1], dtype=np.uint64), r"expected integers below 2\^63"),
        (np.eye(3, dtype=np.int64), r"expected shape \[4\], one label per row of x; got \[3, 3\]"),
        (np.zeros((4, 1), int), r"expected shape \[4\], one label per row of x; got \[4, 1\]"),
        (np.array(["a", "b", "c", "d"]), "expected an array of numbers; got dtype <U1"),
        (np.array([True, False, True, True]), "expected integer class labels; got torch.bool"),
        (np.ma.masked_array([0, 1, 2, 3], mask=[0, 0, 1, 0]), "without masked values"),
        (np.array([0, None, 1, 2], dtype=object), "expected an array of numbers; got dtype object"),
        (torch.arange(4).to_sparse(), "expected an ordinary dense tensor; got a sparse one"),
        ([0, 1, 2, 3], "expected a tensor or an array; got list"),
    ],
)  # fmt: skip
def test_labels_that_are_no_classes_are_named(y, message):
    with pytest.raises((TypeError, ValueError), match=rf"^train\.y: .*{message}"):
        as_samples((torch.zeros(4, 2), y), "train")


def test_tables_of_pandas_are_arrays():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(NCHW.flatten(1).numpy()).iloc[::-1]
    series = pandas.Series(LABELS.numpy(), dtype="Int64").iloc[::-1]
    found = as_samples((frame, series))
    assert torch.equal(found.x, NCHW.flatten(1).flip(0)) and torch.equal(found.y, LABELS.flip(0))
    with pytest.raises(TypeError, match=r"^samples\.y: expected (an array of numbers|integer)"):
        as_samples((frame, pandas.Series([None, *range(23)], dtype="Int64")))
    with pytest.raises(TypeError, match=r"^train: expected Samples, .* got DataFrame"):
        as_samples(frame, "train")


def test_a_memory_map_is_read(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, NCHW.numpy())
    for mode in ("r", "c", "r+"):
        same(as_samples((np.load(path, mmap_mode=mode), LABELS)).x, NCHW)


def test_a_model_cannot_be_given_axes_in_another_order():
    """NHWC without its strides has 6 channels. The error comes before the first round."""
    with pytest.raises((ValueError, RuntimeError)):
        Simulation(net(), halves(IMAGES, LABELS), rounds=1)


ROWS = {"1": [0, 3], 0: (5, 1), np.int64(2): torch.tensor([2])}


def test_index_maps_are_read_in_the_order_of_their_keys():
    data = FederatedData.from_index((NCHW, LABELS), ROWS)
    assert [data.client(i).y.tolist() for i in range(3)] == [[1, 1], [0, 3], [2]]
    text = {str(i): [i] for i in range(11)}  # "10" sorts before "2"
    found = FederatedData.from_index((NCHW, LABELS), text)
    assert torch.equal(found.order, torch.arange(11))
    ragged = np.empty(2, dtype=object)
    ragged[:] = [[4, 5], np.array([7], dtype=">u2")]
    assert FederatedData.from_index((NCHW, LABELS), ragged).order.tolist() == [4, 5, 7]
    table = np.arange(6, dtype=">i4").reshape(2, 3)[:, ::-1]
    assert FederatedData.from_index((NCHW, LABELS), table).order.tolist() == [2, 1, 0, 5, 4, 3]
    by_map = FederatedData.from_arrays({1: NCHW[:2], 0: NCHW[2:3]}, {0: LABELS[2:3], 1: LABELS[:2]})
    assert by_map.y.tolist() == [2, 0, 1] and by_map.sizes.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ({0: [0], 2: [1]}, "indices: expected clients 0 to 1; client 1 is missing, got 2"),
        ({1: [0], 2: [1]}, "indices: expected clients 0 to 1; client 0 is missing, got 2"),
        ({0: [0], -1: [1]}, "indices: expected clients >= 0 as keys; got -1"),
        ({0: [0], "-1": [1]}, "indices: expected clients >= 0 as keys; got '-1'"),
        ({0: [0], "0": [1]}, "indices: expected one entry per client; got client 0 twice"),
        ({"alice": [0]}, "indices: expected integers as keys, one per client; got 'alice'"),
        ({0.5: [0]}, "indices: expected integers as keys"),
        ({True: [0]}, "indices: expected integers as keys"),
        ({}, "indices: expected at least one client; got none"),
        (None, "indices: expected a sequence .* got NoneType"),
        (3, "indices: expected a sequence .* got int"),
        ("01", "indices: expected a sequence .* got str"),
        ((i for i in [[0]]), "indices: expected a sequence .* got generator"),
        ([[0], [[1], [2, 3]]], r"indices\[1\]: expected shape \[n_i\]"),
        ([[0], [True, False]], r"indices\[1\]: expected integers; got dtype bool"),
        ([[0], ["1"]], r"indices\[1\]: expected an array of numbers"),
        ([[0], [10**30]], r"indices\[1\]: expected an array of numbers"),
        ([[0], {1, 2}], r"indices\[1\]: expected a sequence of rows; got set"),
        ([[0], 1], r"indices\[1\]: expected a sequence of rows; got int"),
        ([[0], [24]], r"indices\[1\]: client 1: expected rows in \[0, 24\); got 24..24"),
        ([[0], np.ma.masked_array([1, 2], mask=[0, 1])], r"indices\[1\]: .* without masked values"),
    ],
)
def test_index_maps_that_do_not_fit_are_named(indices, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        FederatedData.from_index((NCHW, LABELS), indices)


def test_labels_may_have_gaps_but_not_of_gigabytes():
    y = LABELS.clone()
    y[3] = (1 << 24) - 1
    with pytest.raises(
        ValueError, match=r"^samples\.y: expected labels from 0 .* 16777215 and 9 cli"
    ):
        dirichlet((NCHW, y), 9, 1.0)


def test_values_beyond_the_runs_type_are_named():
    """1e300 is finite as float64, and would silently be infinite in a float32 run."""
    x = NCHW.double()
    x[5, 0, 0, 0] = 1e300
    with pytest.raises(ValueError, match="^x: expected values that torch.float32 can hold; got 1e"):
        Simulation(net(), halves(x, LABELS), rounds=1)
    with pytest.raises(ValueError, match="^x: expected values that torch.float32 can hold"):
        Simulation(net(), halves(NCHW, LABELS), rounds=1, test=(x, LABELS))
    for small in (NCHW.half(), NCHW.bfloat16(), NCHW.double()):
        weights, _ = trained(halves(small, LABELS))
        assert torch.equal(weights, trained(halves(small.float(), LABELS))[0])
