"""Runs against other implementations: centralized descent, plain autograd scripts."""

import pytest
import torch
from federation import arrays, batches_of, fedavg, federation, final, flat, mlp, sam_gradient, sgd

import fedfast
from fedfast.algorithms import FedASAM, FedAvg, FedAvgM, FedSAM

EVERYBODY = dict(participation=1.0, batch_size=4)


def test_fedavg_with_everybody_full_batches_and_one_step_is_centralized_descent():
    sizes = [5, 17, 1, 40]
    xs, ys = arrays(sizes)
    kwargs = dict(rounds=3, participation=1.0, batch_size=None, lr=0.3)
    ours = final(mlp(), federation(sizes), **kwargs)
    central = mlp()
    for _ in range(3):
        sgd(central, torch.cat(xs), torch.cat(ys), lr=0.3)
    assert (ours - flat(central.state_dict())).abs().max() < 1e-6


@pytest.mark.parametrize("rho", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_fedsam_is_a_plain_autograd_script_on_the_same_batches(rho, weight_decay):
    sizes, lr = [9, 4, 13], 0.2
    kwargs = dict(rounds=2, participation=1.0, local_epochs=2, batch_size=4, seed=3, lr=lr)
    kwargs |= dict(algorithm=FedSAM(rho=rho), weight_decay=weight_decay)
    sim = fedfast.Simulation(mlp(), federation(sizes), **kwargs)
    sim.run(progress=False)

    def step(module, x, y, *_):
        g = sam_gradient(module, x, y, rho, 1e-12)
        for p, a in zip(module.parameters(), g, strict=True):
            p.data -= lr * (a + weight_decay * p.data)

    rounds = [batches_of(sim.schedule.round(t)) for t in range(2)]
    batches = [list(own.values()) for own in rounds]
    model = fedavg(mlp(), arrays(sizes), rounds, batches, step)
    assert (flat(sim.state_dict()) - flat(model.state_dict())).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("one", "other", "options", "tolerance"),
    [
        (FedSAM(rho=0.0), FedAvg(), EVERYBODY, 0),
        (FedASAM(rho=0.0), FedAvg(), EVERYBODY, 0),
        (FedAvg(local=fedfast.SAM(rho=0.0)), FedAvg(), EVERYBODY, 0),
        (FedSAM(rho=0.3), FedAvg(local=fedfast.SAM(rho=0.3)), {}, 0),
        (FedAvgM(beta=0.0), FedAvg(), {}, 1e-7),  # its stored moment is rounded
    ],
    ids=["fedsam", "fedasam", "sam of radius 0", "sam under fedavg", "fedavgm"],
)
def test_identities(one, other, options, tolerance):
    ours, theirs = (
        final(mlp(), federation([9, 4, 13]), a, rounds=3, **options) for a in (one, other)
    )
    apart = (ours - theirs).abs().max()
    assert apart < tolerance if tolerance else torch.equal(ours, theirs)


@pytest.mark.parametrize("nesterov", [False, True])
def test_local_momentum_is_torch_sgd(nesterov):
    xs, ys = arrays([12])
    algorithm = FedAvg(local=fedfast.SGD(momentum=0.9, nesterov=nesterov))
    kwargs = dict(rounds=1, participation=1.0, local_epochs=6, batch_size=None, lr=0.05)
    ours = final(mlp(), federation([12]), algorithm, weight_decay=0.01, **kwargs)
    model = mlp()
    optimizer = torch.optim.SGD(
        model.parameters(), 0.05, momentum=0.9, nesterov=nesterov, weight_decay=0.01
    )
    for _ in range(6):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(xs[0]), ys[0]).backward()
        optimizer.step()
    assert (ours - flat(model.state_dict())).abs().max() < 1e-6
