"""FlatLayout: exact round trips, views that write through, and what a row cannot hold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedfast.layout import FlatLayout
from fedfast.layout_slots import ALIGN_ROW, ALIGN_TENSOR


class Odd(nn.Module):
    """Tied weights, a 0-d parameter, an empty one, a frozen one, float and integer buffers."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.a = nn.Linear(5, 5, dtype=dtype)
        self.b = nn.Linear(5, 5, dtype=dtype)
        self.b.weight = self.a.weight
        self.scale = nn.Parameter(torch.tensor(2.5, dtype=dtype))
        self.none = nn.Parameter(torch.empty(0, 3, dtype=dtype))
        self.frozen = nn.Parameter(torch.randn(7, dtype=dtype), requires_grad=False)
        self.norm = nn.BatchNorm1d(5, dtype=dtype)

    def forward(self, x):
        return self.b(self.norm(self.a(x))) * self.scale + self.frozen.sum()


def randomise(module):
    with torch.no_grad():
        for t in (*module.parameters(), *module.buffers()):
            t.copy_(torch.randn(t.shape) if t.is_floating_point() else torch.randint(9, t.shape))
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_round_trip_is_exact_and_loads_into_a_fresh_module(dtype):
    source, target = randomise(Odd(dtype)), randomise(Odd(dtype))
    layout = FlatLayout.of(source)
    state = layout.state_dict(layout.flatten(source), source)
    target.load_state_dict(state, strict=True)
    for (name, a), b in zip(source.state_dict().items(), target.state_dict().values(), strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b), name


def test_mixed_dtypes_take_the_widest_and_come_back_in_their_own():
    module = nn.Sequential(nn.Linear(3, 3, dtype=torch.bfloat16), nn.Linear(3, 2))
    layout = FlatLayout.of(module)
    assert layout.dtype == torch.float32
    state = layout.state_dict(layout.flatten(module), module)
    for name, t in module.state_dict().items():
        assert state[name].dtype == t.dtype and torch.equal(state[name], t), name
    assert len(state) == 4


def test_tied_weight_has_one_slot_and_both_names():
    module = Odd()
    layout = FlatLayout.of(module)
    names = [slot.name for slot in layout.slots]
    assert "a.weight" in names and "b.weight" not in names
    assert layout.aliases["b.weight"] == "a.weight"
    row = layout.flatten(module)
    layout.views(row)["a.weight"].fill_(3.0)
    assert torch.equal(layout.state_dict(row, module)["b.weight"], torch.full((5, 5), 3.0))


def test_trained_parameters_come_first_and_the_rest_is_behind_the_boundary():
    layout = FlatLayout.of(Odd())
    assert layout.parameters == 5 * 5 + 5 + 5 + 1 + 0 + 5 + 5
    assert all((slot.stop <= layout.trained) == slot.trained for slot in layout.slots)
    rest = [slot.name for slot in layout.slots if not slot.trained]
    assert sorted(rest) == ["frozen", "norm.running_mean", "norm.running_var"]
    assert layout.aside == ("norm.num_batches_tracked",)


shapes = st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), min_size=1, max_size=6)


@settings(deadline=None, max_examples=50)
@given(shapes=shapes, clients=st.integers(1, 4))
def test_views_of_a_bank_tile_it_without_overlap(shapes, clients):
    module = nn.Module()
    for i, shape in enumerate(shapes):
        module.register_parameter(f"p{i}", nn.Parameter(torch.randn(shape)))
    layout = FlatLayout.of(module)
    bank = layout.bank(clients)
    for i, view in enumerate(layout.views(bank).values()):
        assert view.shape == (clients, *shapes[i])
        assert (view == 0).all(), "two views overlap"
        view.fill_(i + 1)
    counted = sum(int((bank == i + 1).sum()) for i in range(len(shapes)))
    assert counted == clients * layout.parameters
    assert int((bank == 0).sum()) == bank.numel() - counted
    assert all(slot.offset % ALIGN_TENSOR == 0 for slot in layout.slots)
    assert layout.stride % ALIGN_ROW == 0 and layout.trained % ALIGN_ROW == 0
    assert layout.segments().spans == tuple((s.offset, s.stop) for s in layout.slots)


def test_empty_module_has_an_empty_row():
    layout = FlatLayout.of(nn.ReLU())
    assert (layout.parameters, layout.stride, layout.views(layout.bank(2))) == (0, 0, {})


def test_asam_flags_are_the_names_with_weight():
    layout = FlatLayout.of(nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2)))
    assert layout.segments().is_weight.tolist() == [True, False, True, False]


def overlapping():
    module, memory = nn.Module(), torch.randn(10)
    module.a, module.b = nn.Parameter(memory[:6]), nn.Parameter(memory[4:])
    return module


def with_parameter(tensor):
    module = nn.Module()
    module.p = nn.Parameter(tensor, requires_grad=False)
    return module


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (overlapping(), "a and b share memory"),
        (with_parameter(torch.zeros(2, dtype=torch.complex64)), "p is torch.complex64"),
        (with_parameter(torch.zeros(2, dtype=torch.int64)), "parameter p is torch.int64"),
        (with_parameter(torch.zeros(2, dtype=torch.float8_e4m3fn)), "p is torch.float8"),
        (nn.LazyLinear(3), "weight has no values yet"),
        (nn.Linear(2, 2, device="meta"), "weight has no values yet"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_refused_with_the_tensor_and_the_reason(module, reason):
    with pytest.raises(ValueError, match=reason):
        FlatLayout.of(module)


def test_flatten_refuses_another_architecture():
    layout = FlatLayout.of(nn.Linear(3, 4))
    with pytest.raises(ValueError, match=r"expected weight \[4, 3\]; got \[4, 5\]"):
        layout.flatten(nn.Linear(5, 4))


def test_the_head_is_the_last_linear_with_its_padding():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(5, 3), nn.Linear(3, 2)
            self.norm = nn.LayerNorm(3)

    module = Two()
    layout = FlatLayout.of(module)
    row = torch.arange(1.0, layout.stride + 1)
    a, b = layout.head
    held = [slot for slot in layout.slots if a <= slot.offset < b]
    assert [slot.name for slot in held] == ["head.weight", "head.bias"]
    assert a == held[0].offset and held[-1].stop <= b <= layout.views(row)["norm.weight"][0] - 1
    assert FlatLayout.of(nn.Conv2d(1, 2, 3)).head == (0, 0)
    module.head.bias.requires_grad_(False)
    assert FlatLayout.of(module).head == (0, 0)  # half of it is frozen
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    assert FlatLayout.of(module).head == (0, 0)  # its weight is the first layer's
