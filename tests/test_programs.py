"""Layer programs against autograd and the module executor; which modules become programs."""

import sys

import pytest
import torch
import torch.nn.functional as F
from federation import federation, final, flat, next_word, sentences, trained
from torch import nn

import fedfast
from fedfast import kernels, lowering
from fedfast.algorithms import FedAvg, FedAvgM, FedSAM
from fedfast.algorithms.objective import Divergence
from fedfast.batches import Minibatch
from fedfast.executor import Capabilities, Fold, LocalStep, StepTensors
from fedfast.layout import FlatLayout
from fedfast.model_inspection import Traits
from fedfast.module_executor import ModuleExecutor
from fedfast.network import run_loss
from fedfast.programs import ProgramExecutor, bytes_per_client, explain, trace
from fedfast.programs.pooling import Pool
from fedfast.programs.products import ConvPool, Linear

CPU = torch.device("cpu")


class Residual(nn.Module):
    """A value read twice, functional layers, and a view."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 9, 3)

    def forward(self, x):
        x = F.relu(self.a(x))
        x = F.max_pool2d(torch.tanh(self.b(x)) + x, 2)
        return self.head(x.view(x.size(0), -1))


class Web(nn.Module):
    """Additions of every kind: of a value to itself, of sums, through reshapes, behind layers that
    overwrite what they are given, of three readers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.same = nn.GroupNorm(2, 4), nn.Identity()
        self.c, self.d = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.p, self.q, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = F.gelu(self.a(x))
        y = self.norm(self.b(x))
        x = self.same(x) + y
        z = (x + x) + F.relu(self.c(y))
        z = F.silu((self.d(z) + z) + self.same(y))
        h = F.avg_pool2d(z, 3).flatten(1)
        h = self.p(h) + h
        return self.head(h.view(-1, 16) + F.relu(self.q(h)))


class Tied(nn.Module):
    """One weight in two layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.head(torch.sigmoid(self.b(F.silu(self.a(x)))))


MODULES = {
    "mlp": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3)),
        (2, 2, 2),
    ),
    "no bias": (lambda: nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 3)), (6,)),
    "activations": (
        lambda: nn.Sequential(
            nn.Linear(6, 5), nn.SiLU(), nn.Linear(5, 5), nn.Sigmoid(), nn.Linear(5, 3), nn.ReLU()
        ),
        (6,),
    ),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 4, 3, stride=2),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        (1, 12, 12),
    ),
    "residual": (Residual, (2, 6, 6)),
    "web": (Web, (2, 6, 6)),
    "norms": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False),
            nn.GroupNorm(2, 4),
            nn.GELU(),
            nn.Conv2d(4, 4, 1),
            nn.LayerNorm((4, 3, 3)),
            nn.LeakyReLU(0.2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 3),
        ),
        (2, 5, 5),
    ),
    "batch norm": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
        ),
        (2, 5, 5),
    ),
    "tied": (Tied, (6,)),
}


def case(name, dtype, backend="native", modules=MODULES, clients=3, width=5):
    """(module, layout, executor, w [K, S], batch) with random models and ragged counts."""
    make, shape = modules[name]
    torch.manual_seed(0)
    module = make().to(dtype)
    layout = FlatLayout.of(module)
    program, reason = trace(module, torch.randn(2, *shape, dtype=dtype))
    assert program is not None, reason
    w = torch.stack([layout.flatten(make().to(dtype)) for _ in range(clients)])
    x = torch.randn(clients, width, *shape, dtype=dtype)
    y = torch.randint(3, (clients, width))
    count = torch.tensor([width, 2, 1][:clients], dtype=torch.int32)
    executor = ProgramExecutor(program, layout, clients, width, CPU, backend)
    return module, layout, executor, w, Minibatch(x, y, count, None)


def in_company(executor, w, batch, last):
    """The last client's results alone, with one other and with both: bit for bit the same.

    last: (executor, rows, batch, clients) -> the tensors of the last of these clients
    """
    results = []
    for chosen in ([0, 1, 2], [2], [1, 2]):
        alike = ProgramExecutor(executor.program, executor.layout, len(chosen), 5, CPU, "native")
        part = Minibatch(batch.x[chosen], batch.y[chosen], batch.count[chosen], None)
        results.append(last(alike, w[chosen].contiguous(), part, chosen))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0, equal_nan=True)
    return results[0]


def autograd(module, layout, row, batch, k):
    """(gradients by name, loss) of client k, plain torch."""
    n = int(batch.count[k])
    module.load_state_dict(layout.state_dict(row, module))
    loss = F.cross_entropy(module(batch.x[k, :n]), batch.y[k, :n])
    grads = torch.autograd.grad(loss, list(module.parameters()))
    named = zip(module.named_parameters(), grads, strict=True)
    return {name: g for (name, _), g in named}, loss.detach()


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", MODULES)
def test_gradients_are_autograds(name, dtype, backend):
    module, layout, executor, w, batch = case(name, dtype, backend)
    g, losses = layout.bank(3).fill_(torch.nan), torch.full((3,), torch.nan, dtype=dtype)
    executor.gradients(LocalStep(), StepTensors(w, w, g, losses), batch)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for k in range(3):
        expected, loss = autograd(module, layout, w[k], batch, k)
        assert abs(losses[k] - loss) <= tolerance * (1 + loss)
        for key, view in layout.views(g[k], True).items():
            assert (view - expected[key]).norm() <= tolerance * (1 + expected[key].norm()), key


@pytest.mark.parametrize("name", [n for n in MODULES if n != "tied"])
def test_a_folded_step_is_the_gradient_then_the_step(name):
    _, layout, executor, w, batch = case(name, torch.float64)
    g, losses = layout.bank(3), torch.zeros(3, dtype=torch.float64)
    executor.gradients(LocalStep(), StepTensors(w, w, g, losses), batch)
    expected = w - 0.1 * (g + 0.01 * w)
    out = torch.full_like(w, torch.nan)
    step = LocalStep(fold=Fold(-0.1, 1 - 0.1 * 0.01, w))
    executor.gradients(step, StepTensors(w, w, out, losses), batch)
    for key, view in layout.views(out, True).items():
        assert torch.allclose(view, layout.views(expected)[key], rtol=0, atol=1e-12)
    executor.gradients(step, StepTensors(w, w, w, losses), batch)
    for key, view in layout.views(w, True).items():
        assert torch.equal(view, layout.views(out)[key]), "in place is the same"


@pytest.mark.parametrize("name", MODULES)
def test_a_client_alone_is_the_client_in_company_bitwise(name):
    _, layout, executor, w, batch = case(name, torch.float32)

    def last(executor, rows, part, _):
        g, losses = layout.bank(len(rows)), torch.zeros(len(rows))
        executor.gradients(LocalStep(), StepTensors(rows, rows, g, losses), part)
        return g[-1]

    assert in_company(executor, w, batch, last).isfinite().all()


ALGORITHMS = [
    FedAvg(),
    FedSAM(rho=0.1),
    FedAvgM(beta=0.5, local=fedfast.SGD(momentum=0.5)),
]


def on_both_paths(make, data, algorithm="fedavg", tolerance=1e-10, **kwargs):
    """A run by programs, and by the module executor under a callable loss: nearly the same."""
    sims = []
    for loss in ("cross_entropy", lambda logits, y: F.cross_entropy(logits, y)):
        torch.manual_seed(0)
        kwargs |= dict(participation=1.0, batch_size=4, loss=loss)
        sims.append(trained(make(), data, algorithm, **kwargs))
    ours, generic = (flat(sim.state_dict()) for sim in sims)
    assert (ours - generic).norm() <= tolerance * generic.norm()
    return sims


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.name)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_a_run_is_the_module_executors_run(algorithm, clip_norm, dtype, tolerance):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(torch.sin(torch.arange(p.numel()) * (i + 1.0)).view_as(p) / 5)
    data = federation([9, 4, 13, 1, 6], shape=(1, 6, 6))
    options = dict(rounds=3, local_epochs=5, weight_decay=0.01, clip_norm=clip_norm, dtype=dtype)
    sims = on_both_paths(lambda: model, data, algorithm, tolerance, **options)
    assert [sim.generic_because for sim in sims] == ["", "the loss is a callable"]
    ours, generic = (sim.history[-1].train_loss for sim in sims)
    assert ours == pytest.approx(generic, rel=tolerance * 10)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.name)
@pytest.mark.parametrize("chunk", [1, 2, None])
def test_batch_norm_with_ragged_clients_is_the_module_executors(algorithm, chunk):
    data = federation([9, 4, 13, 6], shape=(2, 5, 5))
    torch.manual_seed(0)
    model = MODULES["batch norm"][0]()
    model[-1] = nn.Linear(36, 4)
    options = dict(rounds=3, local_epochs=2, chunk=chunk, dtype=torch.float64)
    on_both_paths(lambda: model, data, algorithm, **options)


class Twice(nn.Module):
    """One layer, called twice: its weight has two gradients."""

    def __init__(self):
        super().__init__()
        self.a, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.a(torch.tanh(self.a(x))))


class Overwriting(nn.Module):
    """An in-place activation on a value that is read again."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 4)

    def forward(self, x):
        h = self.a(x)
        return F.relu(h, inplace=True) + h


@pytest.mark.parametrize(
    "make", [Twice, Overwriting, lambda: nn.Sequential(nn.Linear(8, 6), Tied(), nn.Linear(3, 4))]
)
def test_shared_weights_and_in_place_layers_are_the_module_executors(make):
    on_both_paths(make, federation([9, 4]), rounds=2, local_epochs=2, dtype=torch.float64)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Unread(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        return self.a(x)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Sequential(nn.Linear(8, 4), nn.Softplus()), "1: Softplus has no layer record"),
        (lambda: nn.Sequential(nn.Linear(8, 4), nn.AlphaDropout(0.5)), "AlphaDropout has no layer"),
        (lambda: nn.Sequential(nn.Linear(8, 4), Branching()), "torch.fx cannot trace it"),
        (Unread, "no layer reads b.weight"),
        (Overwriting, "it overwrites a value that another layer reads"),
    ],
)
def test_what_has_no_program_takes_the_module_executor_and_gives_the_reason(make, reason):
    sim = fedfast.Simulation(make(), federation([6, 6]), rounds=1)
    assert reason in sim.generic_because
    sim.run(progress=False)
    assert sim.history[-1].status == "ok"


def test_a_model_is_traced_without_sympy(monkeypatch):
    """To import it takes most of a second of every process."""
    for name in ("sympy", "torch.fx.experimental.symbolic_shapes"):
        monkeypatch.setitem(sys.modules, name, None)
    program, reason = trace(nn.Sequential(nn.Linear(5, 4), nn.ReLU()), torch.randn(2, 5))
    assert program is not None and reason == ""


def test_explain_names_every_layer():
    module = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.LSTM(4, 4))
    program, findings = explain(module, torch.randn(2, 3))
    assert program is None
    assert [f.layer for f in findings[:3]] == ["0", "1", "2"]
    assert [bool(f.reason) for f in findings[:3]] == [False, True, True]


def test_the_module_executor_is_reported_once(caplog):
    lowering.warn_once.cache_clear()
    for _ in range(2):
        fedfast.Simulation(nn.Sequential(nn.Linear(8, 4), nn.Softplus()), federation([6]))
    logged = [record.getMessage() for record in caplog.records]
    assert logged == ["module executor, slower: 1: Softplus has no layer record"]


def test_precision_reaches_every_product(monkeypatch):
    seen, layers = set(), ("linear", "conv", "lstm")
    names = [*layers, *(f"{layer}_backward" for layer in layers)]

    def counted(name, operation):
        def call(*args, precision, **kwargs):
            seen.add((name, precision))
            return operation(*args, precision=precision, **kwargs)

        return call

    for name in names:
        monkeypatch.setattr(kernels, name, counted(name, getattr(kernels, name)))
    data = federation([5, 6], shape=(1, 6, 6))
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4))
    for module, samples in (model, data), (next_word(), sentences([5, 6])):
        models = [
            final(module, samples, "fedsam", rounds=1, precision=precision)
            for precision in ("fp32", "tf32", "bf16")
        ]
        assert all(torch.equal(models[0], m) for m in models[1:])  # the CPU never rounds
    assert {(name, p) for name in names for p in ("fp32", "tf32", "bf16")} == seen
    with pytest.raises(ValueError, match="precision: unknown name 'tf23'"):
        fedfast.Simulation(model, data, precision="tf23")


def pooled(*layers):
    """A convolution with these layers behind it, and a head."""
    torch.manual_seed(0)
    modules = nn.Conv2d(1, 4, 3, padding=1), *layers, nn.Flatten(), nn.LazyLinear(4)
    model = nn.Sequential(*modules)
    model(torch.zeros(1, 1, 9, 8))
    return model


def test_pooling_moves_into_the_convolution_before_it():
    x = torch.randn(2, 1, 9, 8)
    kinds = {
        (nn.ReLU(), nn.MaxPool2d(2)): ["relu", None],
        (nn.MaxPool2d(2), nn.ReLU()): ["relu", None],
        (nn.Tanh(), nn.MaxPool2d((4, 2))): ["tanh", None],
        (nn.MaxPool2d(2), nn.Tanh()): [None, None],  # saturated tanh makes equals of others
        (nn.ReLU(), nn.MaxPool2d(3)): None,
        (nn.ReLU(), nn.MaxPool2d(2, stride=1)): None,
        (nn.ReLU(), nn.AvgPool2d(2)): None,
    }
    for layers, activations in kinds.items():
        program = trace(pooled(*layers), x)[0]
        found = [r.activation for r in program.records if isinstance(r, (ConvPool, Linear))]
        assert found == ([None] if activations is None else activations), layers


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("order", [(nn.ReLU, nn.MaxPool2d), (nn.MaxPool2d, nn.ReLU)])
def test_a_pooled_convolution_changes_no_bit_of_a_run(monkeypatch, order, chunk):
    """Beside the same program with convolution and pooling apart."""

    def run():
        layers = [kind(2) if kind is nn.MaxPool2d else kind() for kind in order]
        options = dict(rounds=1, participation=1.0, batch_size=2, chunk=chunk)
        return final(pooled(*layers), data, FedSAM(rho=0.1), **options)

    data = federation([5, 4, 3], shape=(1, 9, 8))
    fused = run()
    monkeypatch.setattr(Pool, "apart", False)
    assert torch.equal(run(), fused)


def test_memory_of_a_pooled_convolution_is_its_maxima_and_a_byte_each():
    program = trace(pooled(nn.ReLU(), nn.MaxPool2d(2)), torch.zeros(2, 1, 9, 8))[0]
    maxima, numbers = 4 * 4 * 4, 9 * 8 + 2 * 4 * 4 * 4 + 4  # the flat view counts as well
    learning = 2 * maxima + 4
    assert bytes_per_client(program, 5, 4) == 4 * 5 * (numbers + maxima // 4 + 2 * learning)


def test_an_executor_refuses_what_is_not_among_its_capabilities():
    """A step that it would take otherwise than asked is an error, not another result."""
    module, layout, executor, w, batch = case("mlp", torch.float64)
    tensors = StepTensors(w, w, torch.zeros_like(w), torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="objective"):
        executor.gradients(LocalStep(objective=run_loss), tensors, batch)
    divergence = Divergence(w[0], 1.0, (0, layout.trained))
    with pytest.raises(
        ValueError, match="objective: the gradient of one of its own is a plain one"
    ):
        executor.gradients(LocalStep(objective=divergence, fold=Fold(-0.1, 1.0, w)), tensors, batch)
    traits = Traits(3, False, 0.0, frozenset())
    generic = ModuleExecutor(module, layout, F.cross_entropy, 1, traits)
    assert generic.capabilities == Capabilities(runs_module=True) and generic.squares(w) is None
    with pytest.raises(ValueError, match="step"):
        generic.gradients(LocalStep(fold=Fold(-0.1, 1.0, w)), tensors, batch)
    with pytest.raises(TypeError, match="first pass"):
        generic.first_pass(tensors, batch)
