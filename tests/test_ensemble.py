"""`Ensemble` equals K loops over `torch.optim`, whatever model, optimizer and batches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fedfast
from fedfast.algorithms import ASAM, SAM, SGD, Optimizer
from fedfast.ensemble import Adam

K, B, STEPS = 4, 6, 20
LR, DECAY = [0.1, 0.02, 0.2, 0.05], [0.0, 1e-3, 1e-2, 0.1]
F64 = torch.float64


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Convolved(nn.Module):
    """With running statistics. No bias before them: its gradient is rounding, which Adam scales."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1, bias=False),
            nn.BatchNorm2d(3),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(12, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Untraced(Dense):
    """No layer program: it asks for values."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * (2.0 if float(x.detach().sum()) > 0 else 1.0)


class Tied(nn.Module):
    """One weight in two layers: nothing is folded."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.two(self.one(x).tanh()).tanh())


@dataclass
class Loop:
    """One model as a script trains it: torch.optim, SAM by hand."""

    model: nn.Module
    optimizer: Optimizer | Adam
    lr: float
    decay: float = 0.0

    def __post_init__(self) -> None:
        own, how = self.optimizer, dict(lr=self.lr, weight_decay=self.decay)
        if isinstance(own, Adam):
            kind = torch.optim.AdamW if own.decoupled else torch.optim.Adam
            how |= dict(betas=own.betas, eps=own.eps)
        else:
            kind = torch.optim.SGD
            how |= dict(momentum=own.momentum, nesterov=own.nesterov)
        self.torchs = kind(self.model.parameters(), **how)
        self.model.train()

    def step(self, x: Tensor, y: Tensor, loss=F.cross_entropy) -> float:
        parts = [p for p in self.model.parameters() if p.requires_grad]
        value = loss(self.model(x), y)
        g = torch.autograd.grad(value, parts)
        if isinstance(self.optimizer, SAM):
            g = self._ahead(parts, g, x, y, loss)
        for p, own in zip(parts, g, strict=True):
            p.grad = own
        self.torchs.step()
        return value.item()

    def _ahead(self, parts, g, x, y, loss) -> tuple[Tensor, ...]:
        """The gradient at w + rho t^2 g / |t g|; statistics are those of the first pass."""
        t = [torch.ones_like(p) for p in parts]
        if isinstance(self.optimizer, ASAM):
            eta, named = self.optimizer.eta, self.model.named_parameters()
            scales = {n: p.abs() + eta if "weight" in n else torch.ones_like(p) for n, p in named}
            t = [scales[n] for n, p in self.model.named_parameters() if p.requires_grad]
        kept = {n: b.clone() for n, b in self.model.named_buffers()}
        before = [p.detach().clone() for p in parts]
        norm = torch.stack([(s * d).norm() for s, d in zip(t, g, strict=True)]).norm()
        with torch.no_grad():
            for p, s, d in zip(parts, t, g, strict=True):
                p += self.optimizer.rho / (norm + self.optimizer.eps) * s**2 * d
        found = torch.autograd.grad(loss(self.model(x), y), parts)
        with torch.no_grad():
            for p, was in zip(parts, before, strict=True):
                p.copy_(was)
            for n, b in self.model.named_buffers():
                b.copy_(kept[n])
        return found


def under(seed: int, make) -> nn.Module:
    torch.manual_seed(seed)
    return make()


PLAIN = SGD()


def loops(make, optimizer=PLAIN, decay=(0.0,) * K, dtype=F64) -> list[Loop]:
    """K scripts under seeds 7, 8, ..."""
    return [Loop(under(7 + k, make).to(dtype), optimizer, LR[k], decay[k]) for k in range(K)]


def batches(shape=(5,), steps=STEPS, dtype=F64, lead=(K, B)):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(*lead, *shape, generator=generator, dtype=dtype)
        yield x, torch.randint(3, lead, generator=generator)


def apart(ensemble: fedfast.Ensemble, scripts: list[Loop]) -> float:
    """The largest difference of any tensor, counters too."""
    pairs = zip(ensemble.state_dicts(), scripts, strict=True)
    return max(
        (mine[name].double() - t.double()).abs().max().item()
        for mine, script in pairs
        for name, t in script.model.state_dict().items()
    )


OPTIMIZERS = [
    SGD(),
    SGD(momentum=0.9),
    SGD(momentum=0.9, nesterov=True),
    SAM(rho=0.05),
    SAM(rho=0.05, momentum=0.5),
    ASAM(rho=0.5),
    Adam(),
    Adam(betas=(0.8, 0.9), eps=1e-3, decoupled=True),
]
SHAPES = {Dense: (5,), Convolved: (1, 4, 4), Untraced: (5,), Tied: (5,)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("make", SHAPES)
def test_it_equals_a_loop_for_each_model(make, optimizer):
    scripts = loops(make, optimizer, DECAY)
    ensemble = fedfast.Ensemble(
        make, K, optimizer=optimizer, lr=LR, weight_decay=DECAY, seed=7, dtype=F64
    )
    for x, y in batches(SHAPES[make]):
        expected = [script.step(*batch) for script, *batch in zip(scripts, x, y, strict=True)]
        losses = ensemble.step(x, y)
        assert (losses - torch.tensor(expected, dtype=F64)).abs().max() < 1e-12
    assert apart(ensemble, scripts) < 1e-12
    assert (ensemble.generic_because != "") == (make is Untraced)


@pytest.mark.parametrize("optimizer", OPTIMIZERS[:4], ids=str)
def test_in_float32_it_is_a_loop_up_to_rounding(optimizer):
    scripts = loops(Dense, optimizer, dtype=torch.float32)
    ensemble = fedfast.Ensemble(Dense, K, optimizer=optimizer, lr=LR, seed=7)
    for x, y in batches(dtype=torch.float32):
        for script, *batch in zip(scripts, x, y, strict=True):
            script.step(*batch)
        ensemble.step(x, y)
    assert apart(ensemble, scripts) < 1e-6


@pytest.mark.parametrize("make", [Dense, Untraced])
def test_models_may_share_a_batch_whose_size_may_change(make):
    scripts = loops(make)
    ensemble = fedfast.Ensemble(make, K, lr=LR, seed=7, dtype=F64)
    for x, y in [*batches(lead=(B,)), *batches(lead=(K,)), *batches(lead=(1,), steps=2)]:
        for script in scripts:
            script.step(x, y)
        ensemble.step(x, y)
    assert apart(ensemble, scripts) < 1e-12


def test_rates_may_change_between_steps():
    scripts = loops(Dense, SAM(rho=0.05))
    ensemble = fedfast.Ensemble(Dense, K, optimizer="sam", lr=1.0, seed=7, dtype=F64)
    ensemble.rho = 0.05
    for t, (x, y) in enumerate(batches()):
        ensemble.lr = [0.9**t * lr for lr in LR]
        ensemble.lr[2] = 0.3
        for k, script in enumerate(scripts):
            script.torchs.param_groups[0]["lr"] = 0.3 if k == 2 else 0.9**t * LR[k]
            script.step(x[k], y[k])
        ensemble.step(x, y)
    assert apart(ensemble, scripts) < 1e-12


def mean_square(outputs: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(outputs, y)


def test_a_loss_of_ones_own():
    scripts = loops(Dense)
    ensemble = fedfast.Ensemble(Dense, K, lr=LR, loss=mean_square, seed=7, dtype=F64)
    for x, y in batches():
        y = F.one_hot(y, 3).to(F64)
        for script, *batch in zip(scripts, x, y, strict=True):
            script.step(*batch, loss=mean_square)
        ensemble.step(x, y)
    assert apart(ensemble, scripts) < 1e-12
    x, y = torch.randn(9, 5, dtype=F64), torch.randn(9, 3, dtype=F64)
    expected = [mean_square(script.model(x), y).item() for script in scripts]
    assert ensemble.evaluate(x, y).loss.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("make", [Dense, Convolved])
def test_models_begin_as_torch_makes_them(make):
    """A function, a module and a list of modules, under seeds of one's own too."""
    seeds = [3, 11, 5]
    expected = [under(seed, make).state_dict() for seed in seeds]
    for model in (make, lambda: make(), make(), [under(seed, make) for seed in seeds]):
        torch.manual_seed(0)
        found = fedfast.Ensemble(model, 3, seed=seeds).state_dicts()
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(0))
        for have, want in zip(found, expected, strict=True):
            assert all(torch.equal(have[name], t) for name, t in want.items())


class Masked(nn.Module):
    """A buffer that no step changes and that is drawn with the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("features", torch.randn(5, 7))
        self.out = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((x @ self.features).cos())


class Frozen(nn.Module):
    """A layer that is drawn, not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.out = nn.Linear(5, 7).requires_grad_(False), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.low(x).tanh())


@pytest.mark.parametrize("make", [Masked, Frozen])
def test_constants_may_differ_between_models(make):
    scripts = loops(make)
    ensemble = fedfast.Ensemble(make, K, lr=LR, seed=7, dtype=F64)
    for x, y in batches():
        for script, *batch in zip(scripts, x, y, strict=True):
            script.step(*batch)
        ensemble.step(x, y)
    assert apart(ensemble, scripts) < 1e-12
    x = torch.randn(4, 5, dtype=F64)
    expected = torch.stack([script.model(x) for script in scripts])
    assert (ensemble.logits(x) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("make", SHAPES)
@pytest.mark.parametrize("samples", [1, 70])
def test_evaluation_is_the_modules(make, samples):
    ensemble = fedfast.Ensemble(make, K, lr=LR, seed=7, dtype=F64)
    for x, y in batches(SHAPES[make], steps=3):
        ensemble.step(x, y)
    modules = [make().to(F64).eval() for _ in range(K)]
    for module, state in zip(modules, ensemble.state_dicts(), strict=True):
        module.load_state_dict(state)
    ((x, y),) = batches(SHAPES[make], steps=1, lead=(K, samples))
    own = torch.stack([m(each) for m, each in zip(modules, x, strict=True)])
    shared = torch.stack([m(x[0]) for m in modules])
    assert (ensemble.logits(x) - own).abs().max() < 1e-12
    assert (ensemble.logits(x[0]) - shared).abs().max() < 1e-12
    assert (ensemble.predict(x[0]) - shared.softmax(2).mean(0)).abs().max() < 1e-12
    scores = ensemble.evaluate(x, y)
    for k, z in enumerate(own):
        assert scores.loss[k].item() == pytest.approx(F.cross_entropy(z, y[k]).item(), abs=1e-12)
        assert scores.accuracy[k] == (z.argmax(1) == y[k]).double().mean()


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 400), nn.Dropout(0.25), nn.Linear(400, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class DroppedUntraced(Dropped):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * (1.0 if float(x.detach().sum()) > 0 else 1.0)


@pytest.mark.parametrize("make", [Dropped, DroppedUntraced])
def test_dropout_masks_are_each_models_own_and_of_the_right_share(make):
    """From one initialisation, the first layer's bias moves where its unit was kept, and nowhere
    else; B = 1, no radius, so that a unit's gradient is 0 only where it was dropped."""
    ensemble = fedfast.Ensemble(make, K, lr=1e-4, seed=[7] * K, dtype=F64)
    before = ensemble.state_dict(0)["layers.0.bias"]
    x, y = torch.ones(1, 5, dtype=F64), torch.zeros(1, dtype=torch.int64)
    masks = []
    for _ in range(3):
        torch.manual_seed(5)
        ensemble.step(x, y)
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(5))
        after = torch.stack([s["layers.0.bias"] for s in ensemble.state_dicts()])
        masks.append(after != before)
        before = after
    kept = torch.stack(masks).double()  # [3, K, 400]
    assert abs(kept.mean() - 0.75) < 4 * (0.25 * 0.75 / kept.numel()) ** 0.5
    flat = kept.flatten(0, 1)
    agree = [(a == b).double().mean() for i, a in enumerate(flat) for b in flat[:i]]
    assert all(abs(share - 0.625) < 5 * (0.625 * 0.375 / 400) ** 0.5 for share in agree)


@pytest.mark.parametrize("make", [Convolved, Untraced, Dropped])
@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), SAM(rho=0.1), Adam()], ids=str)
def test_training_goes_on_from_a_file_to_the_bit(make, optimizer, tmp_path):
    shape = SHAPES.get(make, (5,))
    steps = list(batches(shape, steps=7, dtype=torch.float32))
    steps[3] = tuple(t[:, :2] for t in steps[3])  # a last batch that is not whole

    def begun() -> fedfast.Ensemble:
        return fedfast.Ensemble(make, K, optimizer=optimizer, lr=LR, seed=7)

    whole, first = begun(), begun()
    for x, y in steps[:3]:
        whole.step(x, y), first.step(x, y)
    first.lr[1] = whole.lr[1] = 0.5
    torch.save(first.state_dict(), tmp_path / "state.pt")
    again = begun()
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for x, y in steps[3:]:
        assert torch.equal(again.step(x, y), whole.step(x, y))
    for have, want in zip(again.state_dicts(), whole.state_dicts(), strict=True):
        assert all(torch.equal(have[name], t) for name, t in want.items())
    # In an ensemble that has trained otherwise before, the same.
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for x, y in steps[3:]:
        again.step(x, y)
    have, want = again.views(), whole.views()
    assert all(torch.equal(have[name], t) for name, t in want.items())


def test_one_models_state_is_set_alone():
    ensemble, other = fedfast.Ensemble(Dense, K, seed=7), under(40, Dense)
    for trained in (False, True):
        before = ensemble.state_dicts()
        ensemble.load_state_dict(other.state_dict(), k=2)
        for k, state in enumerate(ensemble.state_dicts()):
            want = other.state_dict() if k == 2 else before[k]
            assert all(torch.equal(state[name], t) for name, t in want.items())
        if not trained:
            ((x, y),) = batches(steps=1, dtype=torch.float32)
            ensemble.step(x, y)


def test_weights_are_views():
    ensemble = fedfast.Ensemble(Dense, K, lr=LR, seed=7)
    ((x, y),) = batches(steps=1, dtype=torch.float32)
    ensemble.step(x, y)
    ensemble.views()["layers.2.bias"][1] = 5.0
    assert torch.equal(ensemble.state_dict(1)["layers.2.bias"], torch.full((3,), 5.0))
    assert (ensemble.logits(x)[1].mean() - 5.0).abs() < 1


def test_a_bad_batch_changes_nothing():
    ensemble = fedfast.Ensemble(Dense, K, optimizer=SGD(momentum=0.9), seed=7)
    ((x, y),) = batches(steps=1, dtype=torch.float32)
    ensemble.step(x, y)
    before = {name: t.clone() for name, t in ensemble.views().items()}
    for bad in (
        (x, y + 3, "y: expected class labels from 0 to 2; got 3 to 5"),
        (x, y - 1, "y: expected class labels from 0 to 2; got -1"),
        (x, y[:, :3], r"y: expected \[4, 6\], as x has \[4, 6, 5\]; got \[4, 3\]"),
        (x[:3], y[:3], r"x: expected \[B, ...\] or \[K, B, ...\] with K = 4"),
        (x[:, :0], y[:, :0], "x: expected at least one sample"),
        (x[..., :4], y, r"samples of shape \[5\], as in the first batch; got \[4, 6, 4\]"),
        (x, y.float(), "y: expected class labels, integers; got torch.float32"),
        (x.tolist(), y, "x: expected a tensor"),
    ):
        with pytest.raises((ValueError, TypeError), match=bad[2]):
            ensemble.step(*bad[:2])
    assert all(torch.equal(t, before[name]) for name, t in ensemble.views().items())
    assert ensemble.steps == 1


def test_one_sample_is_refused_where_torch_refuses_it():
    ensemble = fedfast.Ensemble(lambda: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)), K)
    ((x, y),) = batches(steps=1, dtype=torch.float32)
    ensemble.step(x, y)
    before = ensemble.views()["1.running_mean"].clone()
    with pytest.raises(ValueError, match="x: the model cannot be trained on one sample: Value"):
        ensemble.step(x[:, :1], y[:, :1])
    assert torch.equal(ensemble.views()["1.running_mean"], before)


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(K=0), "K: expected at least 1; got 0"),
        (dict(lr=-1.0), "lr: expected finite numbers >= 0; got -1.0"),
        (dict(lr=[0.1, 0.2]), r"lr: expected a number or \[4\]; got \[2\]"),
        (dict(weight_decay="much"), "weight_decay: expected a number or K = 4 numbers; got 'much'"),
        (dict(optimizer="sgdd"), "optimizer: unknown name 'sgdd'.*sgd"),
        (dict(optimizer=torch.optim.SGD), "optimizer: expected a name or one of SGD, SAM, ASAM"),
        (dict(optimizer=SAM(rho=lambda t: 0.1)), "an ensemble has no rounds"),
        (dict(seed=[1, 2]), "seed: expected a number or K = 4 of them; got 2"),
        (dict(model=Bare()), "Bare has parameters and no reset_parameters"),
        (dict(model=[Dense()] * 3), "model: expected K = 4 modules; got 3"),
        (dict(model=[Dense(), Dense(), Tied(), Dense()]), "one architecture"),
        (dict(model=3), "model: expected an nn.Module, a function that makes one"),
        (dict(dtype=torch.float16), "dtype: expected torch.float32 or torch.float64"),
        (dict(loss="cross_entropie"), "loss: unknown name 'cross_entropie'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fedfast.Ensemble(**dict(model=Dense, K=K) | options)


def test_state_dicts_that_do_not_fit_are_refused():
    ensemble = fedfast.Ensemble(Dense, K, optimizer=SGD(momentum=0.9), seed=7)
    ((x, y),) = batches(steps=1, dtype=torch.float32)
    ensemble.step(x, y)
    before = ensemble.state_dicts()
    plain = fedfast.Ensemble(Dense, K)
    plain.step(x, y)
    for state, k, message in (
        (Tied().state_dict(), 1, "state: it is not one of this model"),
        (Dense().state_dict(), None, "Give k= for the state dict of one model"),
        (Dense().state_dict(), 9, "k: expected a model from 0 to 3; got 9"),
        (fedfast.Ensemble(Dense, 2).state_dict(), None, "state: expected 4 models; got 2"),
        (3, 0, "state: expected a state dict; got 3"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            ensemble.load_state_dict(state, k)
    after = ensemble.state_dicts()
    assert all(torch.equal(a[n], b[n]) for a, b in zip(after, before, strict=True) for n in a)


def test_the_documentation_runs(tmp_path, monkeypatch, capsys):
    page = Path(__file__).parent.parent / "docs" / "ensemble.md"
    scope: dict[str, object] = {}
    monkeypatch.chdir(tmp_path)
    exec("\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)), scope)
    models, together, best = capsys.readouterr().out.splitlines()
    accuracies = [float(part) for part in re.findall(r"0\.\d+", models)]
    assert len(accuracies) == 5 and min(accuracies) > 0.85
    assert float(together.split()[1]) >= min(accuracies) and float(best.split()[2]) > 0.05
