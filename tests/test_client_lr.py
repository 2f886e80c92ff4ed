"""A learning rate of each client's own, and a second moment that starts at 0."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from federation import arrays, federation, flat, mlp

import fedfast
from fedfast import algorithms as alg

SIZES = [9, 14, 5, 7]
COHORTS = [[0, 1], [1, 2, 3], [1, 0], [3, 2]]
LR, DECAY, EPOCHS, WIDTH = 0.3, 0.8, 2, 4


def batches(n):
    return [list(range(b, min(n, b + WIDTH))) for b in range(0, n, WIDTH)]


def simulate(algorithm, model=None, cohorts=COHORTS, **kwargs):
    steps = [[batches(SIZES[i]) * EPOCHS for i in c] for c in cohorts]
    options = dict(lr=LR, lr_decay=DECAY, lr_decay_per="client_epoch") | kwargs
    options |= dict(schedule=fedfast.Schedule.explicit(cohorts, steps), local_epochs=EPOCHS)
    model = model or mlp(dtype=torch.float64)
    return fedfast.Simulation(model, federation(SIZES), algorithm, dtype=torch.float64, **options)


def run(algorithm, **kwargs):
    sim = simulate(algorithm, **kwargs)
    sim.run(progress=False)
    return flat(sim.state_dict())


def gradient(net, v, x, y):
    torch.nn.utils.vector_to_parameters(v, net.parameters())
    g = torch.autograd.grad(F.cross_entropy(net(x.double()), y), list(net.parameters()))
    return torch.cat([t.flatten() for t in g])


def script(rho=0.0, alpha=1.0):
    """FedAvg, FedSAM, FedCM or SCAFFOLD's frame: `alpha g + (1 - alpha) m`, each its own rate."""
    net, (xs, ys), done = mlp(dtype=torch.float64), arrays(SIZES), [0] * len(SIZES)
    w = torch.nn.utils.parameters_to_vector(net.parameters()).detach().clone()
    m = torch.zeros_like(w)
    for cohort in COHORTS:
        total, moved = torch.zeros_like(w), torch.zeros_like(w)
        share = {i: SIZES[i] / sum(SIZES[j] for j in cohort) for i in cohort}
        for i in cohort:
            v, rates = w.clone(), 0.0
            for _ in range(EPOCHS):
                rate = LR * DECAY ** done[i]
                for rows in batches(SIZES[i]):
                    x, y = xs[i][rows], ys[i][rows]
                    g = gradient(net, v, x, y)
                    if rho:
                        g = gradient(net, v + rho * g / (g.norm() + 1e-12), x, y)
                    v, rates = v - rate * (alpha * g + (1 - alpha) * m), rates + rate
                done[i] += 1
            total, moved = total + share[i] * (v - w), moved - share[i] * (v - w) / rates
        w, m = w + total, moved
    return w


CASES = [
    (alg.FedAvg(), {}),
    (alg.FedSAM(rho=0.05), dict(rho=0.05)),
    (alg.FedCM(alpha=0.3), dict(alpha=0.3)),
    (alg.MoFedSAM(rho=0.05, alpha=0.3), dict(rho=0.05, alpha=0.3)),
]


@pytest.mark.parametrize("algorithm, how", CASES)
def test_against_a_script(algorithm, how):
    for chunk in (1, 2, 3):
        assert torch.allclose(run(algorithm, chunk=chunk), script(**how), atol=1e-12)


def test_fedfsa_has_the_same_rates():
    own = run(alg.FedFSA(lr_decay=DECAY), lr_decay=1.0, lr_decay_per="round")
    assert torch.equal(run(alg.FedFSA()), own)
    with pytest.raises(ValueError, match="lr_decay_per"):
        simulate(alg.FedFSA(lr_decay=0.9))


@pytest.mark.parametrize("name", alg.names())
def test_every_algorithm_takes_it(name):
    if name in ("centralized", "fedsgd", "fedcr", "fedala"):
        pytest.skip("they have rounds of another shape")
    assert torch.isfinite(run(alg.by_name(name), lr=0.05)).all()


def test_a_saved_state_goes_on_with_the_clients_rates(tmp_path):
    whole = run(alg.FedAvg())
    half = simulate(alg.FedAvg())
    rows = iter(half)
    next(rows), next(rows)
    half.save(tmp_path / "state.pt")
    later = simulate(alg.FedAvg())
    later.load(tmp_path / "state.pt")
    later.run(progress=False)
    assert torch.equal(flat(later.state_dict()), whole)


def test_words():
    with pytest.raises(ValueError, match="lr_decay_per"):
        simulate(alg.FedAvg(), lr_decay_per="epoch")

    class Own(alg.FedAvg):
        def rate(self, at):
            return at.lr

    with pytest.raises(ValueError, match="Own"):
        simulate(Own())


RULES = {
    alg.FedAdam: lambda v, d: 0.99 * v + 0.01 * d**2,
    alg.FedYogi: lambda v, d: v - 0.01 * d**2 * (v - d**2).sign(),
    alg.FedAdagrad: lambda v, d: v + d**2,
}


@pytest.mark.parametrize("v0", [None, 0.0, 0.25])
@pytest.mark.parametrize("page", RULES)
def test_the_second_moment_starts_at_v0(page, v0):
    tau, eta, once = 0.01, 0.1, dict(lr_decay=1.0, lr_decay_per="round")
    sim = simulate(page(beta1=0.9, tau=tau, v0=v0), server_lr=eta, **once)
    w = flat(sim.state_dict())
    m, v = torch.zeros_like(w), torch.full_like(w, tau**2 if v0 is None else v0)
    for t, _ in enumerate(sim):
        model = mlp(dtype=torch.float64)
        torch.nn.utils.vector_to_parameters(w, model.parameters())
        one = simulate(alg.FedAvg(), model, [COHORTS[t]], **once)
        one.run(progress=False)
        d = flat(one.state_dict()) - w
        m, v = 0.9 * m + 0.1 * d, RULES[page](v, d)
        w = w + eta * m / (v.sqrt() + tau)
        assert torch.allclose(flat(sim.state_dict()), w, atol=1e-10)
