"""Algorithms by name and the server rules against plain scripts of the papers' formulas."""

import pytest
import torch
from federation import federation, flat, mlp
from torch.nn.utils import vector_to_parameters

import fedfast
from fedfast import algorithms
from fedfast.algorithms import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedSAM, FedYogi


def test_by_name_makes_every_page_with_its_papers_defaults():
    for name in algorithms.names():
        assert algorithms.by_name(name) == algorithms.ALGORITHMS[name]()
    assert algorithms.by_name("fedsam", rho=0.3).local == fedfast.SAM(rho=0.3)
    made = algorithms.by_name("fedavgm", beta=0.5, local={"name": "asam", "rho": 0.2})
    assert made == FedAvgM(beta=0.5, local=fedfast.ASAM(rho=0.2))
    assert algorithms.by_name("fedavg", local="sam") == FedAvg(local=fedfast.SAM())


@pytest.mark.parametrize(
    ("name", "parameters", "error", "message"),
    [
        ("fedsan", {}, ValueError, "unknown name 'fedsan'; did you mean 'fedsam'"),
        ("fedsam", {"roh": 0.1}, ValueError, "fedsam, parameter: unknown name 'roh'; did you mean"),
        ("fedsam", {"rho": -0.1}, ValueError, "rho: expected a finite number >= 0; got -0.1"),
        ("fedsam", {"rho": "big"}, TypeError, "rho: expected a number; got 'big'"),
        ("fedsam", {"rho": float("nan")}, ValueError, "rho: expected a finite number"),
        ("fedavgm", {"beta": 1.5}, ValueError, r"beta: expected a number in \[0, 1\]; got 1.5"),
        ("fedadam", {"beta2": True}, TypeError, "beta2: expected a number; got True"),
        ("fedavg", {"local": "sgdm"}, ValueError, "local optimizer: unknown name 'sgdm'"),
        ("fedavg", {"local": {"name": "sam", "r": 1}}, ValueError, "sam, parameter: unknown name"),
        ("fedavg", {"local": {"nesterov": True}}, ValueError, "nesterov: expected False without"),
        ("fedavg", {"local": 3}, TypeError, "local: expected an optimizer"),
    ],
)
def test_bad_parameters_are_named(name, parameters, error, message):
    with pytest.raises(error, match=message):
        algorithms.by_name(name, **parameters)


def adaptive(square_rule, beta1):
    """FedOpt's algorithm 2 on plain tensors."""

    def rule(state, mean, lr, beta2, tau):
        m, v = state if state else (torch.zeros_like(mean), torch.full_like(mean, tau**2))
        m = beta1 * m + (1 - beta1) * mean
        v = square_rule(v, mean**2, beta2)
        return (m, v), lr * m / (v.sqrt() + tau)

    return rule


def heavy_ball(state, mean, lr, beta2, tau):
    m = mean if state is None else 0.7 * state + mean
    return m, lr * m


RULES = [
    (FedAvgM(beta=0.7), heavy_ball),
    (FedAdam(beta1=0.8, beta2=0.9), adaptive(lambda v, s, b: b * v + (1 - b) * s, 0.8)),
    (
        FedYogi(beta1=0.8, beta2=0.9),
        adaptive(lambda v, s, b: v - (1 - b) * s * (v - s).sign(), 0.8),
    ),
    (FedAdagrad(), adaptive(lambda v, s, b: v + s, 0.0)),
]


@pytest.mark.parametrize(("algorithm", "rule"), RULES, ids=lambda x: getattr(x, "name", ""))
@pytest.mark.parametrize("chunk", [None, 2])
def test_server_rule_is_the_papers(algorithm, rule, chunk):
    data, lr, rounds = federation([9, 4, 13, 6]), 0.05, 4
    cohorts = [[0, 1, 2, 3]] * rounds
    batches = [[[[0, 1, 2], [3]]] * 4] * rounds
    common = dict(dtype=torch.float64, lr=0.3, backend="native", chunk=chunk)
    sim = fedfast.Simulation(
        mlp(dtype=torch.float64),
        data,
        algorithm,
        schedule=fedfast.Schedule.explicit(cohorts, batches),
        server_lr=lr,
        **common,
    )
    sim.run(progress=False)
    model, state = mlp(dtype=torch.float64), None
    once = fedfast.Schedule.explicit(cohorts[:1], batches[:1])
    for _ in range(rounds):
        w = flat(model.state_dict())
        mean_model = fedfast.Simulation(model, data, "fedavg", schedule=once, **common)
        mean_model.run(progress=False)
        state, move = rule(state, flat(mean_model.state_dict()) - w, lr, 0.9, 1e-3)
        vector_to_parameters(w + move, model.parameters())
    assert (flat(sim.state_dict()) - flat(model.state_dict())).abs().max() < 1e-10


def test_asam_in_a_run_is_its_formula_on_plain_tensors():
    data, rho, eta = federation([7]), 0.4, 0.2
    schedule = fedfast.Schedule.explicit([[0]], [[[list(range(7))]]])
    algorithm = FedAvg(local=fedfast.ASAM(rho=rho, eta=eta))
    sim = fedfast.Simulation(
        mlp(dtype=torch.float64), data, algorithm, schedule=schedule, lr=0.1, dtype=torch.float64
    )
    sim.run(progress=False)
    model, ahead = mlp(dtype=torch.float64), mlp(dtype=torch.float64)
    x, y = data.client(0).x.double(), data.client(0).y

    def gradients(module):
        loss = torch.nn.functional.cross_entropy(module(x), y)
        return torch.autograd.grad(loss, list(module.parameters()))

    g = gradients(model)
    scale = [
        p.abs() + eta if "weight" in name else torch.ones_like(p)
        for name, p in model.named_parameters()
    ]
    length = sum((t * d).square().sum() for t, d in zip(scale, g, strict=True)).sqrt()
    with torch.no_grad():
        for p, t, d in zip(ahead.parameters(), scale, g, strict=True):
            p += rho * t * t * d / (length + 1e-16)
    with torch.no_grad():
        for p, d in zip(model.parameters(), gradients_at(ahead, gradients), strict=True):
            p -= 0.1 * d
    assert (flat(sim.state_dict()) - flat(model.state_dict())).abs().max() < 1e-12


def gradients_at(module, gradients):
    with torch.enable_grad():
        return gradients(module)


def test_fedsam_differs_from_fedavg_when_it_should():
    finals = []
    for algorithm in (FedSAM(rho=0.5), FedAvg()):
        sim = fedfast.Simulation(mlp(), federation([9, 4, 13]), algorithm, rounds=3)
        sim.run(progress=False)
        finals.append(flat(sim.state_dict()))
    assert (finals[0] - finals[1]).abs().max() > 1e-3


@pytest.mark.parametrize("rule", ["sum", "weighted-sum"])
def test_summed_losses_of_many_samples_do_not_drown_in_rounding(rule):
    """4,000 samples, a learning rate of summed losses: float32 keeps the step float64 makes."""
    sizes, lr = [3000, 1000], 1e-6
    moves = []
    for dtype in (torch.float32, torch.float64):
        model = mlp(dtype=dtype)
        old = flat(model.state_dict())
        sim = fedfast.Simulation(
            model,
            federation(sizes),
            algorithms.FedSGD(rule=rule),
            rounds=1,
            participation=1.0,
            batch_size=None,
            lr=lr,
            dtype=dtype,
        )
        sim.run(progress=False)
        moves.append(flat(sim.state_dict()) - old)
    assert float((moves[0] - moves[1]).norm() / moves[1].norm()) < 1e-3
