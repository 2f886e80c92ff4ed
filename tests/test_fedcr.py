"""FedCR against a plain autograd script, its noise held fixed."""

import pytest
import torch
import torch.nn.functional as F
from federation import arrays, flat
from torch import nn
from torch.distributions import Normal, kl_divergence

import fedfast
from fedfast import models
from fedfast.algorithms import FedALA, FedAvg, FedCR, FineTune, fedcr
from fedfast.lowering import warn_once

SIZES, CLASSES, DIM = [9, 4, 6], 4, 3
LR, BETA, L, ALPHA = 0.2, 0.3, 2, 0.5
COHORTS = [[0, 1, 2], [2, 0], [1, 2]]
EPOCH = [[0, 1, 2, 3], [3, 1]]


def make():
    model = models.build(
        "stochastic", input_shape=(8,), classes=CLASSES, seed=4, hidden=[7], dimZ=DIM
    )
    return model.double()


def fixed(seed, shape, like):
    """Noise that depends on its shape alone."""
    count = torch.Size(shape).numel()
    return torch.linspace(-2, 2, count, dtype=like.dtype).sin().view(shape)


def simulate(algorithm=None, **kwargs):
    schedule = fedfast.Schedule.explicit(COHORTS, [[EPOCH * 2] * len(c) for c in COHORTS])
    data = fedfast.FederatedData.from_arrays(*arrays(SIZES))
    algorithm = algorithm or FedCR(beta=BETA, L=L, alpha=ALPHA, beta2=0.75)
    settings = dict(lr=LR, dtype=torch.float64, local_epochs=2, aggregation="uniform") | kwargs
    sim = fedfast.Simulation(make(), data, algorithm, schedule=schedule, **settings)
    return torch.stack([flat(sim.state_dict()) for _ in sim]), sim


def client(common, head, prior, x, y):
    """(the client's state dict, its Gaussians by class)."""
    model, experts = make(), {}
    model.load_state_dict(common)
    model.head.load_state_dict(head)
    optimizer = torch.optim.SGD(model.parameters(), LR)
    for s, rows in enumerate(EPOCH * 2):
        out = model.encoder(x[rows])
        mu, sigma = out[:, :DIM], F.softplus(out[:, DIM:] - ALPHA)
        z = mu + sigma * fixed(0, (L, len(rows), DIM), mu)
        logits = torch.stack([model.head(sample) for sample in z])
        loss = sum(F.cross_entropy(each, y[rows]) for each in logits) / L
        means, spreads = zip(*[prior[int(c)] for c in y[rows]], strict=True)
        wanted = Normal(torch.stack(means), torch.stack(spreads))
        loss = loss + BETA * kl_divergence(wanted, Normal(mu, sigma)).sum(1).mean()
        if s >= len(EPOCH):
            for c, m, d in zip(y[rows].tolist(), mu.detach(), sigma.detach(), strict=True):
                experts.setdefault(c, []).append((m, d))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.state_dict(), {c: product(found) for c, found in experts.items()}


def product(gaussians):
    """Mean and deviation of a product of Gaussian densities, one after another."""
    mean, deviation = gaussians[0]
    for m, d in gaussians[1:]:
        total = deviation**2 + d**2
        mean, deviation = (mean * d**2 + m * deviation**2) / total, deviation * d / total.sqrt()
    return mean, deviation


def script():
    xs, ys = arrays(SIZES)
    unit = torch.zeros(DIM, dtype=torch.float64), torch.ones(DIM, dtype=torch.float64)
    common, prior = make().state_dict(), [unit] * CLASSES
    heads, rounds = [make().head.state_dict()] * 3, []
    for cohort in COHORTS:
        found = [client(common, heads[i], prior, xs[i].double(), ys[i]) for i in cohort]
        for i, (state, _) in zip(cohort, found, strict=True):
            heads[i] = {k: state[f"head.{k}"] for k in ("weight", "bias")}
        common = {k: sum(s[k] for s, _ in found) / len(found) for k in common}
        for c in range(CLASSES):
            held = [experts[c] for _, experts in found if c in experts]
            if held:
                new = product([unit, *held])
                prior[c] = tuple(0.25 * a + 0.75 * b for a, b in zip(prior[c], new, strict=True))
        rounds.append(flat(common))
    return torch.stack(rounds), heads, prior


@pytest.mark.parametrize("chunk", [None, 2])
def test_the_authors_rules_round_by_round(monkeypatch, chunk):
    monkeypatch.setattr(fedcr, "noise", fixed)
    theirs, heads, prior = script()
    ours, sim = simulate(chunk=chunk)
    assert (ours - theirs).abs().max() < 1e-12
    for i, head in enumerate(heads):
        state = sim.client_state_dict(i)
        assert (state["head.weight"] - head["weight"]).abs().max() < 1e-12
    kept = sim._engine.state.values
    for c, (mean, deviation) in enumerate(prior):
        assert (kept["r_mu"][c] - mean).abs().max() < 1e-12
        assert (kept["r_sigma"][c] - deviation).abs().max() < 1e-12


@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_layer_program_gives_what_autograd_gives(clip):
    program, sim = simulate(clip_norm=clip)
    module, other = simulate(clip_norm=clip, loss=F.cross_entropy)
    assert sim.generic_because == "" and "callable" in other.generic_because
    assert (program - module).abs().max() < 1e-12
    for name, held in sim._engine.state.values.items():
        assert (held - other._engine.state.values[name]).abs().max() < 1e-12
    for found, expected in zip(sim.history, other.history, strict=True):
        assert found.train_loss == pytest.approx(expected.train_loss, rel=1e-12)


class Convolutions(nn.Module):
    """Statistics of a batch before the Gaussians, dropout: a client's own numbers."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.out = nn.Linear(3 * 4 * 4, 2 * DIM)

    def forward(self, x):
        return self.out(F.softplus(self.norm(self.conv(x))).flatten(1))


class Rectified(Convolutions):
    def forward(self, x):
        return self.out(F.dropout(torch.relu(self.norm(self.conv(x))), 0.25).flatten(1))


def images(encoder, **options):
    torch.manual_seed(3)
    data = fedfast.FederatedData.from_arrays(*arrays([9, 4, 6, 7], shape=(1, 4, 4)))
    settings = dict(rounds=3, local_epochs=2, batch_size=3, lr=LR, seed=1, drop_last=True)
    kind = options.pop("kind", models.Stochastic)
    net = kind(encoder(), nn.Linear(DIM, CLASSES))
    algorithm = options.pop("algorithm", FedCR(beta=BETA, L=3, alpha=ALPHA))
    sim = fedfast.Simulation(net, data, algorithm, **settings | options)
    sim.run(progress=False)
    return flat(sim.state_dict()), sim


def test_a_client_does_not_depend_on_its_company():
    whole, sim = images(Rectified)
    assert sim.generic_because == ""
    for options in (dict(chunk=1), dict(chunk=3, threads=2)):
        assert torch.equal(images(Rectified, **options)[0], whole)


def test_an_encoder_that_no_program_has_is_trained_by_the_module():
    found, sim = images(Convolutions)
    assert "softplus" in sim.generic_because
    assert torch.isfinite(found).all()


class Steady(models.Stochastic):
    """The encoder's statistics stay as they are."""

    def train(self, mode=True):
        super().train(mode)
        self.encoder.norm.eval()
        return self


class Squashed(models.Stochastic):
    def forward(self, x):
        return self.head(torch.tanh(self.encoder(x)[:, :DIM]))


@pytest.mark.parametrize(("kind", "reason"), [(Steady, "train"), (Squashed, "forward")])
def test_a_model_with_ways_of_its_own_is_trained_by_the_module(kind, reason):
    """Its encoder's program would not know of them, in training or in fine-tuning."""
    tuned = FedCR(beta=BETA, L=3, fine_tune=FineTune(epochs=2))
    given = dict(kind=kind, algorithm=tuned, participation=1.0, dtype=torch.float64)
    found, sim = images(Rectified, **given, verify=False)
    expected, other = images(Rectified, **given, loss=F.cross_entropy)
    assert sim.generic_because.startswith(f"its {reason}") and torch.equal(found, expected)
    for i in range(4):
        one, two = (flat(each.client_state_dict(i)) for each in (sim, other))
        assert torch.equal(one, two)


def test_an_encoder_that_does_not_train_is_refused():
    def frozen():
        return Plain().requires_grad_(False)

    with pytest.raises(ValueError, match="model: expected one with a stochastic encoder"):
        images(frozen)


def test_gradients_without_the_objective_are_the_models_own():
    """FedALA's clients learn their weights by the loss of the means; and so does fine-tuning."""
    local = fedcr.BottleneckSGD(L=3, beta=BETA)
    algorithm = FedALA(s=100, threshold=0.5, local=local, fine_tune=FineTune(epochs=2))
    kept = dict(algorithm=algorithm, participation=1.0)
    wide = dict(kept, dtype=torch.float64)
    program, sim = images(Plain, **wide)
    module, other = images(Plain, **wide, loss=F.cross_entropy)
    assert sim.generic_because == "" and "callable" in other.generic_because
    assert (program - module).abs().max() < 1e-11
    for i in range(4):
        one, two = (flat(each.client_state_dict(i)) for each in (sim, other))
        assert (one - two).abs().max() < 1e-11


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(16, 2 * DIM)

    def forward(self, x):
        return self.out(x.flatten(1))


def test_a_loss_made_of_it_is_the_users_own():
    class Doubled(fedcr.BottleneckSGD):
        def objective(self, at, looking):
            found = super().objective(at, looking)
            return lambda *args: 2.0 * found(*args)

    sim = images(Rectified, algorithm=FedAvg(local=Doubled()))[1]
    assert sim.generic_because == "the algorithm has a loss of its own"


def test_noise_is_standard_normal_and_depends_on_its_seed_alone():
    like = torch.zeros(1)
    found = fedcr.noise(7, (100, 100), like)
    assert torch.equal(found, fedcr.noise(7, (100, 100), like))
    assert not torch.equal(found, fedcr.noise(8, (100, 100), like))
    assert abs(float(found.mean())) < 0.05 and abs(float(found.std()) - 1) < 0.05


def test_the_noise_changes_from_step_to_step_and_with_the_runs_seed():
    assert not torch.equal(simulate(seed=1)[0], simulate(seed=2)[0])
    assert torch.equal(simulate(seed=1)[0], simulate(seed=1)[0])


def test_a_stochastic_model_is_an_ordinary_classifier_without_noise():
    model = make()
    x = torch.randn(5, 8, dtype=torch.float64)
    expected = model.head(model.encoder(x)[:, :DIM])
    assert torch.equal(model(x), expected)
    _, sim = simulate(FedAvg())
    assert sim.history[-1].status == "ok"


def test_models_by_name_and_their_errors():
    build = dict(input_shape=(1, 16, 16), classes=3)
    net = models.build("stochastic", body="lenet", channels=(2, 3), hidden=[6], dimZ=4, **build)
    assert net.encoder[-1].out_features == 8 and net(torch.zeros(2, 1, 16, 16)).shape == (2, 3)
    with pytest.raises(ValueError, match="body: unknown name 'lent'; did you mean 'lenet'"):
        models.build("stochastic", body="lent", **build)
    with pytest.raises(ValueError, match="lenet option: unknown name 'width'"):
        models.build("stochastic", body="lenet", width=3, **build)
    with pytest.raises(ValueError, match="dimZ: expected at least 1; got 0"):
        models.build("stochastic", dimZ=0, **build)


def test_a_model_that_is_refused_is_not_said_to_be_slow_before(caplog):
    warn_once.cache_clear()
    data = fedfast.FederatedData.from_arrays(*arrays(SIZES))
    with pytest.raises(ValueError, match="model: expected one with a stochastic encoder"):
        fedfast.Simulation(nn.Linear(8, CLASSES), data, "fedcr")
    assert caplog.records == []
    fedfast.Simulation(nn.Sequential(nn.Linear(8, CLASSES), nn.Softplus()), data)
    assert [r.getMessage()[:23] for r in caplog.records] == ["module executor, slower"]
