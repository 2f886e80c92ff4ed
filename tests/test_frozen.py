"""Frozen parameters: all clients share one copy, and what is trained is what autograd trains."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import scripts.run
import torch
import torch.nn.functional as F
from federation import arrays, batches_of, fedavg, norm
from hypothesis import example, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from paired_runs import path, simulation
from scripts.run import SPANS, Run
from test_scripts import CASES, settings
from torch import Tensor, nn

import fedfast
from fedfast import algorithms as alg
from fedfast import kernels

pytestmark = pytest.mark.usefixtures("one_thread")
FIRST, LAST = {"0.weight", "0.bias"}, {"2.weight", "2.bias"}
PARTS = [FIRST, LAST, {"0.weight"}, {"2.weight"}, {"0.bias"}, {"0.bias", "2.weight"}]
# Its script takes the least sensitive tensor of all, which is a frozen one.
NAMES = [name for name in CASES if name != "fedfsa-reverse"]
PLAIN = "fedavg", "fedsam", "fedasam", "fedfsa", "scaffold", "fedgloss+sam"  # clipped and not


def still(run: Run, frozen: set[str]) -> Run:
    """The run, no weight decay on what is frozen."""
    decay: Tensor = torch.full_like(run.w0, run.weight_decay)
    for name in frozen:
        decay[SPANS[name]] = 0
    return replace(run, weight_decay=decay)


@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm_is_its_script_over_what_is_trained(name, monkeypatch):
    algorithm, script = CASES[name]
    both = list(settings(name).values())
    for i, run in enumerate(both):
        if i == NAMES.index(name) % 2 or name in PLAIN:
            frozen = PARTS[(2 * NAMES.index(name) + i) % len(PARTS)]
            monkeypatch.setattr(scripts.run, "FROZEN", frozen)
            sim = simulation(run, algorithm, frozen)
            assert sim.generic_because == algorithm.local.own_loss
            assert (path(sim) - script(still(run, frozen))).abs().max() < 2e-12, frozen


class ConvNet(nn.Module):
    """Convolutions, a norm, pooling, a skipped layer, two dense ones."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
        self.group, self.c, self.head = nn.GroupNorm(1, 3), nn.Linear(12, 5), nn.Linear(5, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.a(x)))
        x = F.max_pool2d(F.relu(self.group(self.b(x) + x)), 2)
        return self.head(torch.tanh(self.c(torch.flatten(x, 1))))


class Low(nn.Module):
    """A frozen dense layer and a trained product of rank 2 beside it."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.down, self.up = nn.Linear(inputs, 2, bias=False), nn.Linear(2, outputs, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x)) * 2


class Parametrised(nn.Module):
    """The same as one product with the sum of the weights."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / 6, requires_grad=False)
        self.down, self.up = (
            nn.Parameter(torch.randn(*s) / 6) for s in ((2, inputs), (outputs, 2))
        )

    def forward(self, x):
        return F.linear(x, self.weight + self.up @ self.down)


class Words(nn.Module):
    """Frozen vectors of words, two layers of LSTM, the lower of them frozen in part."""

    def __init__(self):
        super().__init__()
        self.words, self.lstm = nn.Embedding(9, 3), nn.LSTM(3, 4, 2, batch_first=True)
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.lstm(self.words(x))[0][:, -1])


class Extractor(nn.Module):
    """A frozen body; `still`: whose norms keep to evaluation mode."""

    def __init__(self, still):
        super().__init__()
        self.still = still
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
        self.body[1].running_mean.fill_(0.3)
        self.body.requires_grad_(False)
        self.head = nn.Linear(48, 4)

    def train(self, mode=True):
        super().train(mode)
        self.body.train(mode and not self.still)
        return self

    def forward(self, x):
        return self.head(self.body(x))


def tied():
    layers = nn.Linear(36, 5), nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 4)
    layers[2].weight = layers[1].weight
    layers[1].weight.requires_grad_(False)
    return nn.Sequential(nn.Flatten(), layers[0], nn.Tanh(), layers[1], layers[2], layers[3])


def trained_below():
    module = Extractor(True)
    module.body[0].requires_grad_(True)
    module.body[1].bias.requires_grad_(True)
    return module


def made(make, frozen=()):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = make().double()
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    return module


def low(part=Low):
    return lambda: nn.Sequential(nn.Flatten(), part(36, 6), nn.ReLU(), part(6, 4))


LSTM = ("words.weight", "lstm.weight_ih_l0", "lstm.bias_hh_l0")
LOWER = (
    "words.weight",
    *(f"lstm.{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
)
MODELS = {  # how to make it, what is frozen beside what it freezes itself, why it has no program
    "low rank": (low(), (), ""),
    "low rank, one factor frozen": (low(), ("1.down.weight",), ""),
    "parametrised": (low(Parametrised), (), "it reads a tensor of the module directly"),
    "tied": (tied, (), ""),
    "norm in training mode": (lambda: Extractor(False), (), ""),
    "norm in evaluation mode": (lambda: Extractor(True), (), ""),
    "norm in evaluation mode, trained below": (trained_below, (), ""),
    "embedding and half a layer of LSTM": (Words, LSTM, ""),
    "embedding and a layer of LSTM": (Words, LOWER, ""),
    "trained embedding": (Words, LOWER[1:], ""),
    "biases": (ConvNet, ("a.bias", "b.bias", "c.bias", "head.bias"), ""),
    "all but biases": (ConvNet, ("a.weight", "b.weight", "c.weight", "head.weight"), ""),
    "first": (ConvNet, ("a.weight", "a.bias", "norm.weight", "norm.bias"), ""),
    "last": (ConvNet, ("head.weight", "head.bias"), ""),
}
SIZES = [4, 7]


def samples(module):
    xs, ys = arrays(SIZES, shape=(1, 6, 6))
    if isinstance(module, Words):
        xs = [(x.flatten(1)[:, :5].abs() * 4).long().clamp(max=8) for x in xs]
    return xs, ys


def run(module, algorithm="fedavg", **options):
    same = dict(rounds=2, participation=1.0, local_epochs=1, batch_size=3, lr=0.2)
    same |= dict(dtype=torch.float64)
    clients = fedfast.FederatedData.from_arrays(*samples(module))
    return fedfast.Simulation(module, clients, algorithm, **(same | options))


def plain(module, x, y, *_, rho=0.0):
    """A step of SGD, or of SAM, over what is trained, as torch has it."""
    learns = [p for p in module.parameters() if p.requires_grad]
    x = x.double() if x.is_floating_point() else x

    def gradient():
        return torch.autograd.grad(F.cross_entropy(module(x), y), learns)

    g, kept = gradient(), [p.detach().clone() for p in learns]
    if rho:
        scale = rho / (norm(g) + 1e-12)
        for p, part in zip(learns, g, strict=True):
            p.data += scale * part
        g = gradient()
    for p, start, part in zip(learns, kept, g, strict=True):
        p.data = start - 0.2 * part


def by_autograd(module, sim, step=plain):
    """FedAvg in plain torch over the batches of the run."""
    rounds = [batches_of(sim.schedule.round(t)) for t in range(sim.rounds)]
    return fedavg(module, samples(module), rounds, [list(r.values()) for r in rounds], step)


def assert_same(sim, module, start):
    found, own = sim.state_dict(), dict(module.named_parameters())
    for name, value in module.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12, msg=name)
        if name in own and not own[name].requires_grad:
            assert torch.equal(found[name], start[name]), name


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_part_frozen_is_autograds(name, backend):
    make, frozen, reason = MODELS[name]
    module = made(make, frozen)
    sim = run(module, backend=backend, clip_norm=1e6)
    list(sim)
    assert reason in sim.generic_because if reason else sim.generic_because == ""
    assert_same(sim, by_autograd(module, sim), module.state_dict())


@pytest.mark.parametrize("name", [n for n in MODELS if MODELS[n][0] is not ConvNet])
def test_sams_norm_is_over_what_is_trained(name):
    module = made(*MODELS[name][:2])
    sim = run(module, alg.FedSAM(rho=0.2))
    list(sim)
    expected = by_autograd(module, sim, partial(plain, rho=0.2))
    if name == "norm in training mode":  # whose statistics the script's second pass moves again
        for key in ("body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"):
            expected.state_dict()[key].copy_(sim.state_dict()[key])
    assert_same(sim, expected, module.state_dict())


NAMED = [name for name, _ in made(ConvNet).named_parameters()]


@given(st.sets(st.sampled_from(NAMED), max_size=len(NAMED) - 1))
@example(set(NAMED) - {"a.bias"})  # in front of a batch norm: its gradient is zero but for rounding
@hypothesis(max_examples=10, deadline=None)
def test_whatever_is_frozen_the_rest_is_autograds_and_counted_alone(frozen):
    module = made(ConvNet, frozen)
    sim = run(module)
    list(sim)
    assert sim.generic_because == ""
    assert_same(sim, by_autograd(module, sim), module.state_dict())
    own = dict(module.named_parameters())
    trained = sum(own[name].numel() for name in NAMED if name not in frozen)
    assert sim.layout.parameters == trained
    assert sim.traffic == (8 * (trained + 2 * 3),) * 2  # running mean and variance of 3 channels


@pytest.mark.parametrize("name", MODELS)
def test_a_client_is_the_same_to_the_bit_in_any_company(name):
    sims = [run(made(*MODELS[name][:2]), "fedsam", chunk=k, verify=False) for k in (1, 2)]
    one, two = ([list(sim), sim.state_dict()][1] for sim in sims)
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_in_triton():
    module, few = made(*MODELS["low rank"][:2]), dict(rounds=1, participation=0.5, clip_norm=0.1)
    sim = run(module, "fedsam", backend="triton", verify=False, **few)
    other = run(module, "fedsam", **few)
    list(sim), list(other)
    assert sim.generic_because == ""
    for key, value in other.state_dict().items():
        torch.testing.assert_close(sim.state_dict()[key], value, rtol=0, atol=1e-12)


K, B = 2, 3


def operations(backend):
    """Backward operations as (call of sinks, their names and shapes)."""
    draw = partial(torch.randn, dtype=torch.float64)
    x, w, d = draw(K, B, 5), draw(4, 5).expand(K, 4, 5), draw(K, B, 4)
    dense = partial(kernels.linear_backward, x, w, d.tanh(), activation="tanh", backend=backend)
    yield partial(dense, dx=torch.empty_like(x)), d, dict(dweight=w, dbias=draw(K, 4))
    x, w = draw(K, 2, 1, 4, 4), draw(4, 1, 3, 3).expand(K, 4, 1, 3, 3)
    how, sinks = dict(activation="relu", backend=backend), dict(dweight=w, dbias=draw(K, 4))
    out = kernels.conv(x, w, **how)
    image = partial(kernels.conv_backward, x, w, out, dx=torch.empty_like(x), **how)
    yield image, draw(*out.shape), sinks
    tap = torch.empty(K, 2, 4, 1, 1, dtype=torch.uint8)
    out = kernels.conv_pool(x, w, kernel=2, tap=tap, **how)
    how |= dict(kernel=2, dx=torch.empty_like(x))
    yield partial(kernels.conv_pool_backward, x, w, out, tap, **how), draw(*out.shape), sinks


@pytest.mark.parametrize("backend", ["native", "reference", "triton"])
def test_gradients_left_out_change_no_bit_of_the_others(backend):
    torch.manual_seed(0)
    for call, d, like in operations(backend):
        whole = {name: torch.empty(t.shape, dtype=t.dtype) for name, t in like.items()}
        call(d.clone(), **whole)
        dx = call.keywords["dx"].clone()
        for kept in ("dweight", "dbias", None):
            part = {name: torch.full_like(t, 7) for name, t in whole.items() if name == kept}
            norms = torch.zeros(K, dtype=torch.float64)
            call.keywords["dx"].fill_(7)
            call(d.clone(), **part, squares=norms if part else None)
            assert torch.equal(call.keywords["dx"], dx)
            for name, t in part.items():
                assert torch.equal(t, whole[name])
                torch.testing.assert_close(norms, t.flatten(1).square().sum(1))


def test_an_lstms_gradients_left_out_change_no_bit_of_the_others():
    draw, found = partial(torch.randn, dtype=torch.float64), {}
    x, dout = draw(K, B, 5, 2), draw(K, B, 5, 3)
    weights = draw(12, 2).expand(K, 12, 2), draw(12, 3).expand(K, 12, 3)
    shapes = dict(dweight_ih=(12, 2), dweight_hh=(12, 3), dbias_ih=(12,), dbias_hh=(12,))
    for kept in (*shapes, None, "all"):
        gates, cells, out = (torch.empty(K, B, 5, n, dtype=x.dtype) for n in (12, 3, 3))
        kernels.lstm(x, *weights, gates=gates, cells=cells, out=out)
        names = [name for name in shapes if kept in (name, "all")]
        sinks = {name: torch.empty(K, *shapes[name], dtype=x.dtype) for name in names}
        dx = torch.empty_like(x)
        kernels.lstm_backward(x, *weights, gates, cells, out, dout, dx=dx, **sinks)
        for name, t in (sinks | dict(dx=dx)).items():
            assert torch.equal(found.setdefault(name, t), t), name


def test_memory_and_bytes_are_those_of_what_is_trained():
    def bottleneck(width):
        layers = [nn.Linear(36, width), nn.ReLU(), nn.Linear(width, 8)]
        frozen = nn.Sequential(*layers).requires_grad_(False)
        return nn.Sequential(nn.Flatten(), frozen, nn.Tanh(), nn.Linear(8, 4))

    small, large = (run(made(lambda w=w: bottleneck(w))) for w in (8, 800))
    assert large.traffic == small.traffic == (8 * (8 * 4 + 4),) * 2
    # Of the frozen layers' values none outlives the next: the wider is the batch's own, 3 of 800.
    assert large.memory.each - small.memory.each == 8 * 3 * (800 - 8)
    more = 36 * 792 + 792 + 792 * 8
    assert large.memory.fixed - small.memory.fixed <= 8 * more * 5 + 8 * 8 * 64 * 800
    program = large._design.program
    weights = dict(large._design.module.named_parameters())
    for name, tensor in program.constants.items():  # one copy for all clients: the module's own
        assert tensor.data_ptr() == weights[name].data_ptr()


def test_nothing_happens_below_the_first_trained_layer(monkeypatch):
    calls = []
    for kind in ("linear", "linear_backward"):
        real = getattr(fedfast.kernels, kind)
        note = lambda *a, real=real, kind=kind, **k: calls.append(kind) or real(*a, **k)  # noqa: E731
        monkeypatch.setattr(fedfast.kernels, kind, note)
    layers = [nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 4)]
    module = nn.Sequential(nn.Flatten(), *layers).double()
    module[1].requires_grad_(False), module[3].requires_grad_(False)
    sim = run(module, alg.FedSAM(rho=0.1), rounds=1, verify=False, backend="reference", chunk=2)
    next(iter(sim))
    steps = 3  # of the larger client
    assert calls.count("linear_backward") <= 2 * steps  # of one layer, in both passes
    assert calls.count("linear") <= (3 + 1) * steps  # SAM's second pass begins at what is trained


def test_frozen_tensors_are_in_models_and_not_in_checkpoints(tmp_path):
    module = made(low())
    sim = run(module)
    next(iter(sim))
    sim.save(tmp_path / "a.state")
    again = run(module)
    again.load(tmp_path / "a.state")
    list(sim), list(again)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in sim.state_dict().items())
    assert torch.equal(sim.model()[1].base.weight, module[1].base.weight)
    base = module[1].base.weight
    assert base.numel() * 8 < (tmp_path / "a.state").stat().st_size  # both are small here
    other = made(low())
    with torch.no_grad():
        other[1].base.weight.add_(1)
    with pytest.raises(ValueError, match="1.base.weight"):
        run(other).load(tmp_path / "a.state")


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_and_decay_are_torchs_over_what_is_trained(nesterov):
    module = made(ConvNet, ("a.weight", "norm.bias", "c.weight"))
    algorithm = alg.FedAvg(local=fedfast.SGD(momentum=0.9, nesterov=nesterov))
    sim = run(module, algorithm, weight_decay=0.01, lr=0.05, rounds=1, local_epochs=2)
    list(sim)
    learns = {}

    def step(local, x, y, *_):
        if local not in learns:
            learns[local] = torch.optim.SGD(
                [p for p in local.parameters() if p.requires_grad],
                *(0.05, 0.9),
                weight_decay=0.01,
                nesterov=nesterov,
            )
        learns[local].zero_grad()
        F.cross_entropy(local(x.double()), y).backward()
        learns[local].step()

    assert_same(sim, by_autograd(module, sim, step), module.state_dict())


def test_later_changes_of_the_users_module_have_no_effect():
    module, same = made(low()), made(low())
    sim, expected = run(module), run(same)
    module.requires_grad_(True)
    with torch.no_grad():
        module[1].base.weight.zero_()
    list(sim), list(expected)
    for key, value in expected.state_dict().items():
        assert torch.equal(sim.state_dict()[key], value)


def test_personal_models_share_what_is_frozen():
    module = made(ConvNet, ("a.weight", "c.bias"))
    for algorithm in (alg.FedAvgFT(epochs=1), alg.FedALA(s=60, p=1), alg.FedSAM(keep_models=True)):
        sim = run(module, algorithm)
        list(sim)
        for i in range(len(SIZES)):
            own = sim.client_state_dict(i)
            assert torch.equal(own["a.weight"], module.a.weight)
            assert torch.equal(own["c.bias"], module.c.bias)
            assert not torch.equal(own["head.weight"], module.head.weight)


def test_evaluation_reads_the_shared_copy():
    module = made(low())
    xs, ys = arrays([30], shape=(1, 6, 6), seed=4)
    sim = run(module, test=(xs[0], ys[0]))
    list(sim)
    logits = sim.model().eval()(xs[0].double()).detach()
    assert sim.history[-1].loss == pytest.approx(float(F.cross_entropy(logits, ys[0])), rel=1e-12)


def test_a_model_without_anything_to_train_is_refused():
    with pytest.raises(ValueError, match="model: it has no parameter to train"):
        run(made(low()).requires_grad_(False))
