"""Layers of programs one by one: functional forms, dropout, sequences, log-softmax."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from dropout_reference import Masked, mask
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedfast.batches import Minibatch
from fedfast.executor import LocalStep, StepTensors
from fedfast.layout import FlatLayout
from fedfast.programs import ProgramExecutor, bytes_per_client, explain, trace
from fedfast.programs.elementwise import Dropout

CPU, WIDE = torch.device("cpu"), torch.float64


class Calls(nn.Module):
    """A small image model whose middle is one function."""

    def __init__(self, middle, features):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3), nn.Linear(features, 3)
        self.middle = middle

    def forward(self, x):
        return self.head(self.middle(self.conv(x)).flatten(1))


# name -> (function of [B, 4, 6, 6], features that leave it)
FUNCTIONS = {
    "relu": (F.relu, 144),
    "relu6": (F.relu6, 144),
    "gelu": (F.gelu, 144),
    "silu": (F.silu, 144),
    "F.tanh": (F.tanh, 144),
    "torch.tanh": (torch.tanh, 144),
    "method": (lambda x: x.sigmoid(), 144),
    "F.sigmoid": (F.sigmoid, 144),
    "torch.sigmoid": (torch.sigmoid, 144),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.3), 144),
    "leaky_relu default": (F.leaky_relu, 144),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, stride=2, padding=1), 36),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, (3, 2), 2, count_include_pad=False), 24),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), 24),
    "mean": (lambda x: x.mean((2, 3)), 4),
    "mean kept": (lambda x: torch.mean(x, dim=(-1, -2), keepdim=True), 4),
    "torch.flatten": (lambda x: torch.flatten(x, 1), 144),
    "flatten by keyword": (lambda x: torch.flatten(input=x, start_dim=1), 144),
    "mean by keyword": (lambda x: torch.mean(input=x, dim=(2, 3)), 4),
    "view": (lambda x: x.view(x.size(0), -1), 144),
    "reshape": (lambda x: x.reshape(x.shape[0], 2, 72), 144),
    "torch.add": (lambda x: torch.add(torch.tanh(x), x), 144),
    "dropout off": (lambda x: F.dropout(x, 0.5, training=False), 144),
    "dropout of nothing": (lambda x: F.dropout2d(x, 0.0), 144),
}


def gradients(module, program, x, y, count, seeds=None, backend="native"):
    """(views of both clients' gradients, losses), each client with the module's own weights."""
    layout = FlatLayout.of(module)
    w = layout.flatten(module).repeat(2, 1)
    executor = ProgramExecutor(program, layout, 2, x.shape[1], CPU, backend)
    g, losses = layout.bank(2).fill_(torch.nan), torch.full((2,), torch.nan, dtype=WIDE)
    batch = Minibatch(x, y, count, None if seeds is None else torch.as_tensor(seeds))
    executor.gradients(LocalStep(), StepTensors(w, w, g, losses), batch)
    return [layout.views(row, True) for row in g], losses


def agrees(module, x, y):
    """The program's float64 gradients are autograd's, for batches of 4 and 3 samples."""
    program, reason = trace(module, x[0, :2])
    assert program is not None, reason
    count = torch.tensor([4, 3], dtype=torch.int32)
    found, losses = gradients(module, program, x, y, count)
    for k in range(2):
        loss = F.cross_entropy(module(x[k, : count[k]]), y[k, : count[k]])
        assert abs(losses[k] - loss) <= 1e-12 * (1 + loss)
        for name, p in module.named_parameters():
            (expected,) = torch.autograd.grad(loss, p, retain_graph=True)
            assert (found[k][name] - expected).norm() <= 1e-12 * (1 + expected.norm()), name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functional_forms(name):
    torch.manual_seed(0)
    middle, features = FUNCTIONS[name]
    x, y = torch.randn(2, 4, 2, 8, 8, dtype=WIDE), torch.randint(3, (2, 4))
    agrees(Calls(middle, features).double(), x, y)


@settings(max_examples=15, deadline=None)
@given(
    words=st.integers(2, 9),
    steps=st.integers(1, 6),
    size=st.integers(1, 5),
    hidden=st.integers(1, 6),
    layers=st.integers(1, 3),
    bias=st.booleans(),
    padding=st.sampled_from([None, 1]),
    index=st.sampled_from([-1, 0]),
)
def test_sequences(words, steps, size, hidden, layers, bias, padding, index):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(words, size, padding_idx=padding)
            self.lstm = nn.LSTM(size, hidden, layers, bias=bias, batch_first=True)
            self.head = nn.Linear(hidden, 3)

        def forward(self, x):
            out, (_, _) = self.lstm(self.words(x))
            return F.log_softmax(self.head(out[:, index, :]), dim=1)

    torch.manual_seed(0)
    agrees(Net().double(), torch.randint(words, (2, 4, steps)), torch.randint(3, (2, 4)))


class Reads(nn.Module):
    """A function of a module's output, as an LSTM's sequence, its last step or its states."""

    def __init__(self, module, function):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, x):
        return self.function(self.module(x))


def test_the_whole_sequence_may_be_read():
    torch.manual_seed(0)
    lstm, head = nn.LSTM(3, 4, batch_first=True), nn.Linear(20, 3)
    module = nn.Sequential(Reads(lstm, lambda out: torch.flatten(out[0], 1)), head).double()
    agrees(module, torch.randn(2, 4, 5, 3, dtype=WIDE), torch.randint(3, (2, 4)))


def test_words_may_share_their_table_with_the_last_layer():
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
            self.head.weight = self.words.weight

        def forward(self, x):
            return self.head(self.words(x)[:, -1])

    agrees(Net().double(), torch.randint(5, (2, 4, 3)), torch.randint(5, (2, 4)))


def test_dropout_is_autograd_under_numpys_masks():
    torch.manual_seed(0)
    width, seeds = 5, [7, 2**62 + 3]
    conv, head = nn.Conv2d(2, 4, 3), nn.Linear(64, 3)

    def model(planes, elements):
        layers = conv, planes, nn.Flatten(), nn.Tanh(), elements, head
        return nn.Sequential(*layers).double()

    module = model(nn.Dropout2d(0.25), nn.Dropout(0.6))
    program, reason = trace(module, torch.randn(2, 2, 6, 6, dtype=WIDE))
    assert program is not None, reason
    x, y = torch.randn(2, width, 2, 6, 6, dtype=WIDE), torch.randint(3, (2, width))
    count = torch.tensor([width, 3], dtype=torch.int32)
    for backend in ("native", "reference"):
        found, losses = gradients(module, program, x, y, count, seeds, backend=backend)
        for k in range(2):
            planes = mask(seeds[k], 0, width * 4, 0.25).view(width, 4, 1, 1).double() / 0.75
            elements = mask(seeds[k], 1, width * 64, 0.6).view(width, 64).double() / 0.4
            plain = model(Masked(planes), Masked(elements))
            loss = F.cross_entropy(plain(x[k, : count[k]]), y[k, : count[k]])
            assert abs(losses[k] - loss) <= 1e-12
            for name, p in plain.named_parameters():
                (expected,) = torch.autograd.grad(loss, p, retain_graph=True)
                assert (found[k][name] - expected).norm() <= 1e-12 * (1 + expected.norm())


def test_each_dropout_draws_its_own_numbers():
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 3))
    program, _ = trace(module, torch.randn(2, 4))
    layers = [r.layer for r in program.records if isinstance(r, Dropout)]
    assert layers == [0, 1]


def test_dropout_asked_for_by_training_is_traced_whatever_the_mode():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 3)

        def forward(self, x):
            return F.dropout(self.a(x), 0.5, training=self.training)

    module = Net().eval()
    state = torch.get_rng_state()
    program, _ = trace(module, torch.randn(2, 4, generator=torch.Generator()))
    assert [type(r).__name__ for r in program.records] == ["Linear", "Dropout"]
    assert not module.training
    assert torch.equal(state, torch.get_rng_state())


def state(index, layer):
    """An LSTM's states after the last step: hidden ones (0) of a layer, or cells (1)."""
    return Reads(stacked(2), lambda out: out[1][index][layer])


@pytest.mark.parametrize("layer", [-1, 1])
def test_the_last_state_is_the_last_step(layer):
    torch.manual_seed(0)
    module = nn.Sequential(state(0, layer), nn.Linear(5, 3)).double()
    agrees(module, torch.randn(2, 4, 3, 4, dtype=WIDE), torch.randint(3, (2, 4)))


def stacked(*args, **kwargs):
    return nn.LSTM(4, 5, *args, **({"batch_first": True} | kwargs))


SEQUENCE = torch.randn(2, 3, 4)


@pytest.mark.parametrize(
    ("module", "x", "reason"),
    [
        (stacked(bidirectional=True), SEQUENCE, "LSTM without batch_first, bidirectional"),
        (stacked(batch_first=False), SEQUENCE, "LSTM without batch_first"),
        (stacked(proj_size=2), SEQUENCE, "with proj_size"),
        (stacked(2, dropout=0.5), SEQUENCE, "LSTM with dropout between its layers"),
        (state(0, 0), SEQUENCE, "it reads the state of a layer below an LSTM's last"),
        (state(1, 0), SEQUENCE, "it reads an LSTM's cells"),
        (Reads(nn.Identity(), lambda x: x[:, :, 1]), SEQUENCE, r"an index other than \[:, step\]"),
        (nn.Embedding(5, 3, max_norm=1.0), torch.ones(2, 3).long(), "Embedding with max_norm"),
        (nn.LogSoftmax(2), SEQUENCE, "log_softmax over something other"),
        (nn.Dropout2d(0.5), SEQUENCE, "dropout of planes of something that is not"),
        (nn.GRU(4, 5), SEQUENCE, "GRU has no layer record"),
    ],
    ids=lambda v: type(v).__name__,
)
@pytest.mark.filterwarnings("ignore:dropout2d", "ignore:LSTM with projections")
def test_what_has_no_record_has_a_reason(module, x, reason):
    program, findings = explain(nn.Sequential(module), x)
    assert program is None
    assert re.search(reason, "\n".join(str(f.reason) for f in findings))


def test_memory_of_an_lstm_is_counted():
    module = nn.Sequential(nn.Embedding(9, 2), nn.LSTM(2, 3, 2, batch_first=True))
    last = Reads(module[1], lambda out: out[0][:, -1])
    program = trace(nn.Sequential(module[0], last), torch.ones(2, 5).long())[0]
    kept = 5 + 5 * 2 + 5 * 3 + 5 * 3 + 3  # tokens, vectors, the LSTM's output, its view, one step
    learning = 5 * 2 + 5 * 3 + 5 * 3 + 3
    saved = 2 * 5 * (4 * 3 + 3) + 5 * 3 + 5 * 3  # gates and cells, between layers, its gradient
    assert bytes_per_client(program, 7, 4) == 7 * 4 * (kept + 2 * learning + saved)
