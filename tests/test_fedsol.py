"""FedSOL against a plain autograd script."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from federation import add, arrays, federation, flat, mlp, norm
from fedfast.kernels import perturb
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import fedfast
from fedfast.algorithms import FedAvg, FedSOL
from fedfast.algorithms.fedsol import ProximalSAM, _added_in_pairs

SIZES, LR, RHO, DECAY = [9, 4, 6], 0.2, 0.7, 0.01
COHORTS = [[0, 1, 2], [2, 0]]
STEPS = [[0, 1, 2, 3], [3, 1], [0, 2]]


def simulate(algorithm, **kwargs):
    schedule = fedfast.Schedule.explicit(COHORTS, [[STEPS] * len(c) for c in COHORTS])
    settings = dict(lr=LR, weight_decay=DECAY, dtype=torch.float64) | kwargs
    model = mlp(dtype=torch.float64)
    sim = fedfast.Simulation(model, federation(SIZES), algorithm, schedule=schedule, **settings)
    assert bool(sim.generic_because) == ("loss" in kwargs)
    return torch.stack([flat(sim.state_dict()) for _ in sim]), sim


def perturbation(model, sent, x, perturbed, strength):
    """e of every tensor; at the sent model itself the divergence is flat and e is 0."""
    target = (sent(x) / 3).softmax(1).detach()
    kl = F.kl_div((model(x) / 3).log_softmax(1), target, reduction="batchmean")
    p = list(torch.autograd.grad(kl, list(model.parameters())))
    moved = [(v - w).detach() for v, w in zip(model.parameters(), sent.parameters(), strict=True)]
    if not any(m.any() for m in moved):
        return [torch.zeros_like(t) for t in p]
    if perturbed == "head":
        p = [torch.zeros_like(t) for t in p[:-2]] + p[-2:]
    scale = [F.normalize(m.abs(), dim=0) if strength == "adaptive" else 1.0 for m in moved]
    return [RHO * s * t / (norm(p) + 1e-12) for s, t in zip(scale, p, strict=True)]


def client(sent, x, y, perturbed, strength, momentum):
    model = mlp(dtype=torch.float64)
    model.load_state_dict(sent.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=momentum, weight_decay=DECAY)
    losses = []
    for rows in STEPS:
        e = perturbation(model, sent, x[rows], perturbed, strength)
        saved = [t.detach().clone() for t in model.parameters()]
        add(model, e, 1.0)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        with torch.no_grad():
            for t, v in zip(model.parameters(), saved, strict=True):
                t.copy_(v)
        optimizer.step()
        losses.append((float(loss.detach()), len(rows)))
    return model.state_dict(), losses


def script(**kwargs):
    xs, ys = arrays(SIZES)
    common, rounds, told = mlp(dtype=torch.float64), [], []
    for cohort in COHORTS:
        found = [client(common, xs[i].double(), ys[i], **kwargs) for i in cohort]
        total = sum(SIZES[i] for i in cohort)
        shares = [SIZES[i] / total for i in cohort]
        mean = {
            k: sum(s * v[k] for s, (v, _) in zip(shares, found, strict=True))
            for k in common.state_dict()
        }
        common.load_state_dict(mean)
        rounds.append(flat(mean))
        seen = [loss for _, losses in found for loss in losses]
        told.append(sum(a * n for a, n in seen) / sum(n for _, n in seen))
    return torch.stack(rounds), told


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("perturbed", ["head", "all"])
@pytest.mark.parametrize(("strength", "momentum"), [("fixed", 0.0), ("adaptive", 0.9)])
def test_the_papers_equations_round_by_round(perturbed, strength, momentum, backend):
    theirs, losses = script(perturbed=perturbed, strength=strength, momentum=momentum)
    algorithm = FedSOL(rho=RHO, perturbed=perturbed, strength=strength, momentum=momentum)
    ours, sim = simulate(algorithm, backend=backend)
    assert (ours - theirs).abs().max() < 1e-12
    assert [row.train_loss for row in sim.history] == pytest.approx(losses, abs=1e-12)


def test_without_a_radius_it_is_fedavg_and_the_radius_matters():
    plain = simulate(FedAvg())[0]
    assert (simulate(FedSOL(rho=0.0))[0] - plain).abs().max() < 1e-13
    assert (simulate(FedSOL(rho=RHO))[0] - plain).abs().max() > 1e-3


class Convolutions(nn.Module):
    """Statistics of a batch, and an output behind the head."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.head = nn.Linear(3 * 4 * 4, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return F.log_softmax(self.head(x.flatten(1)), 1)


def images(sizes=SIZES):
    xs, ys = arrays(sizes, shape=(1, 4, 4))
    return fedfast.FederatedData.from_arrays(xs, ys)


def trained(algorithm, **options):
    torch.manual_seed(3)
    settings = dict(rounds=3, participation=1.0, local_epochs=2, batch_size=3, lr=LR, seed=1)
    settings |= dict(dtype=torch.float64)
    sim = fedfast.Simulation(Convolutions(), images(), algorithm, **settings | options)
    sim.run(progress=False)
    return flat(sim.state_dict()), sim


@pytest.mark.parametrize("strength", ["fixed", "adaptive"])
@pytest.mark.parametrize("perturbed", ["head", "all"])
def test_a_layer_program_gives_what_autograd_gives(perturbed, strength):
    """The batch statistics of the sent model are its own, the running ones those of the client's
    first pass; a head is not the last layer."""
    algorithm = FedSOL(rho=RHO, perturbed=perturbed, strength=strength)
    program, sim = trained(algorithm)
    module, other = trained(algorithm, loss=F.cross_entropy)
    assert sim.generic_because == "" and "callable" in other.generic_because
    assert (program - module).abs().max() < 1e-11
    alone = trained(algorithm, chunk=1)[0]
    assert torch.equal(alone, program)
    assert (trained("fedavg")[0] - program).abs().max() > 1e-3


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13])
def test_sums_of_pairs(n):
    """In float32 beside NumPy's in float64; a client's own does not depend on its company."""
    x = torch.rand(6, n, 4, generator=torch.Generator().manual_seed(n))
    found = _added_in_pairs(x.clone())
    expected = x.numpy().astype(np.float64).sum(axis=1, keepdims=True)
    assert found.shape == (6, 1, 4)
    assert np.abs(found.numpy() - expected).max() <= 4 * np.finfo(np.float32).eps * expected.max()
    assert torch.equal(_added_in_pairs(x[2:3].clone()), found[2:3])


class Counted(TorchDispatchMode):
    """How many operations torch was asked for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("perturbed", ["head", "all"])
def test_the_adaptive_strength_takes_no_more_operations_for_more_clients(perturbed, monkeypatch):
    seen, scaled = [], ProximalSAM._scaled

    def counted(self, at, g, span):
        with Counted() as mode:
            found = scaled(self, at, g, span)
        seen.append((len(at), mode.count))
        for k in range(len(at)):  # beside the paper's formula, client by client
            for (a, b), shape in zip(at.layout.segments.spans, at.layout.shapes, strict=True):
                moved = (at.w[k, a:b] - at.start[a:b]).abs().view(shape)
                wanted = F.normalize(moved, dim=0).flatten() * g[k, a:b]
                inside = perturbed == "all" or a >= at.layout.head[0]
                assert torch.equal(found[k, a:b], wanted if inside else torch.zeros_like(wanted))
        return found

    monkeypatch.setattr(ProximalSAM, "_scaled", counted)
    trained(FedSOL(rho=RHO, perturbed=perturbed, strength="adaptive"), dtype=torch.float32)
    counts = dict(seen)
    assert len(counts) > 1 and len(set(counts.values())) == 1


def test_a_loss_made_of_it_is_the_users_own():
    """Which autograd takes, whatever it is."""

    class Doubled(ProximalSAM):
        def objective(self, at, looking):
            found = super().objective(at, looking)
            return found and (lambda *args: 2.0 * found(*args))

    sim = fedfast.Simulation(mlp(), federation(SIZES), FedAvg(local=Doubled()), rounds=1)
    assert sim.generic_because == "the algorithm has a loss of its own"
    sim.run(progress=False)


class AlongAll(ProximalSAM):
    """Moves every tensor along the divergence's gradient, whatever is `perturbed`."""

    def ascend(self, at, g, out):
        perturb(at.w, g, self.rho, out=out, eps=self.eps, backend=at.backend)


class ByTensor(ProximalSAM):
    """As far in each tensor as its place says."""

    def scales(self, at, length):
        places = torch.arange(1, 1 + len(at.layout.shapes), dtype=length.dtype)
        return self.rho * places / (length + self.eps)[:, None]


@pytest.mark.parametrize("perturbed", ["head", "all"])
@pytest.mark.parametrize("own", [AlongAll, ByTensor])
def test_an_ascent_of_ones_own_has_the_whole_gradient_of_the_divergence(own, perturbed):
    algorithm = FedAvg(local=own(rho=RHO, perturbed=perturbed))
    program, sim = trained(algorithm)
    module, _ = trained(algorithm, loss=F.cross_entropy)
    assert sim.generic_because == ""
    assert (program - module).abs().max() < 1e-11
