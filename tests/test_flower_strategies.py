"""Strategies for Flower against `Simulation` and against the papers' formulas in plain torch.

Messages go to a ClientApp through protobuf and back, as Flower's own Grids send them.
"""

import itertools
import logging
from copy import deepcopy

import numpy as np
import pytest
import torch
from federation import arrays
from torch import nn

import fedfast
from fedfast import algorithms

pytest.importorskip("flwr")

import flower_app
from flower_nodes import InProcessGrid, client_app, local_training
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp import strategy as theirs

from fedfast.integrations.flower.client_dual import KEY, Dual
from fedfast.integrations.flower.record_rows import RecordRows
from fedfast.integrations.flower.strategies import AlgorithmStrategy, FedGH, FedGloSS, FedNSAM

SIZES, LR = [6, 9, 4, 7, 5], 0.4
COHORTS = [[0, 1, 2], [1, 3, 4], [0, 2, 4], [1, 2, 3]]
BATCHES = [{k: [[0, 1, 2], [3, 2], [1, 0, 3]] for k in cohort} for cohort in COHORTS]
XS, YS = arrays(SIZES)
DATA = [(x.double(), y) for x, y in zip(XS, YS, strict=True)]
OPTIONS = {"fraction_evaluate": 0.0}


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("flwr").setLevel(logging.ERROR)


def network() -> nn.Module:
    """With running statistics, a counter, a frozen tensor, and a table of integers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 4)
        ).double()
    model[3].weight.requires_grad_(False)
    model.register_buffer("table", torch.arange(2**60, 2**60 + 3))
    return model


def under_flower(strategy, rho=0.0, beta=None, cohorts=COHORTS, batches=BATCHES):
    """(state dict after all rounds, what `start` returned)."""
    model = network()
    grid = InProcessGrid(client_app(model, DATA, batches, lr=LR, rho=rho, beta=beta), cohorts)
    result = strategy.start(grid, ArrayRecord(model.state_dict()), num_rounds=len(cohorts))
    return result.arrays.to_torch_state_dict(), result


def simulated(algorithm, **options):
    data = fedfast.FederatedData.from_arrays([x for x, _ in DATA], YS)
    batches = [[b[k] for k in c] for c, b in zip(COHORTS, BATCHES, strict=True)]
    sim = fedfast.Simulation(
        network(),
        data,
        algorithm,
        schedule=fedfast.Schedule.explicit(COHORTS, batches),
        lr=LR,
        dtype=torch.float64,
        **options,
    )
    sim.run(progress=False)
    return sim


def close(got, expected, tolerance=1e-10):
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name].dtype == value.dtype, name
        assert (got[name] - value).abs().max() <= tolerance, name


class Script:
    """The rounds of a paper on plain tensors: `send` and `settle` are its server."""

    def __init__(self, rho=0.0, beta=None):
        self.model, self.rho, self.beta = network(), rho, beta
        self.sigma_k = {}

    @property
    def w(self):
        return [p for p in self.model.parameters() if p.requires_grad]

    def client(self, k, batches):
        local = deepcopy(self.model).train()
        learns = [p for p in local.parameters() if p.requires_grad]
        with torch.no_grad():
            for p, sent in zip(learns, self.send(), strict=True):
                p.copy_(sent)
        sent = [p.detach().clone() for p in learns]
        sigma = self.sigma_k.get(k, [torch.zeros_like(p) for p in sent])

        def correct():
            for p, s, v in zip(learns, sigma, sent, strict=True):
                p.grad += (p.detach() - v) / self.beta - s

        local_training(local, *DATA[k], batches, LR, self.rho, correct if self.beta else int)
        deltas = [p.detach() - v for p, v in zip(learns, sent, strict=True)]
        if self.beta:
            self.sigma_k[k] = [s - d / self.beta for s, d in zip(sigma, deltas, strict=True)]
        return deltas, dict(local.named_buffers())

    def run(self):
        for cohort, batches in zip(COHORTS, BATCHES, strict=True):
            found = [self.client(k, batches[k]) for k in cohort]
            p = np.array([SIZES[k] for k in cohort]) / sum(SIZES[k] for k in cohort)
            with torch.no_grad():
                self.settle([deltas for deltas, _ in found], p)
                for name, buffer in self.model.named_buffers():
                    if name != "table":
                        mean = sum(a * b[name].double() for a, (_, b) in zip(p, found, strict=True))
                        buffer.copy_(mean + 1e-9 if buffer.dtype == torch.int64 else mean)
        return self.model.state_dict()

    def send(self):
        return self.w


def means(deltas, weights):
    """The weighted mean over clients of every tensor."""
    tensors = zip(*deltas, strict=True)
    return [sum(a * d for a, d in zip(weights, each, strict=True)) for each in tensors]


class GloSS(Script):
    radius, sigma, pseudo = 0.3, None, None

    def send(self):
        if self.pseudo is None:
            return self.w
        length = torch.cat([d.flatten() for d in self.pseudo]).norm()
        return [p + self.radius * d / length for p, d in zip(self.w, self.pseudo, strict=True)]

    def settle(self, deltas, weights):
        if self.sigma is None:
            self.sigma = [torch.zeros_like(d) for d in deltas[0]]
        for i in range(len(self.w)):
            self.sigma[i] -= sum(d[i] for d in deltas) / (self.beta * len(SIZES))
        self.pseudo = [-mean for mean in means(deltas, weights)]
        for p, d, s in zip(self.w, self.pseudo, self.sigma, strict=True):
            p -= d + self.beta * s


class NSAM(Script):
    gamma, m = 0.6, None

    def send(self):
        m = self.m or [torch.zeros_like(p) for p in self.w]
        return [p + self.gamma * v for p, v in zip(self.w, m, strict=True)]

    def settle(self, deltas, weights):
        m = self.m or [torch.zeros_like(p) for p in self.w]
        self.m = [self.gamma * v + d for v, d in zip(m, means(deltas, weights), strict=True)]
        for p, v in zip(self.w, self.m, strict=True):
            p += v


class GH(Script):
    """Whole models, pairs ascending, both projections from the values before the pair."""

    conflicts = 0

    def settle(self, deltas, weights):
        rows = [torch.cat([d.flatten() for d in each]) for each in deltas]
        for i, j in itertools.combinations(range(len(rows)), 2):
            a, b, inner = rows[i], rows[j], rows[i] @ rows[j]
            if inner < 0:
                self.conflicts += 1
                rows[i], rows[j] = a - inner / (b @ b) * b, b - inner / (a @ a) * a
        mean = sum(a * row for a, row in zip(weights, rows, strict=True))
        for p, d in zip(self.w, mean.split([p.numel() for p in self.w]), strict=True):
            p += d.view_as(p)


@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_fedgloss_is_the_papers_and_the_simulations(rho):
    strategy = FedGloSS(network(), rho=0.3, beta=5.0, clients=5, **OPTIONS)
    got, _ = under_flower(strategy, rho=rho)
    close(got, GloSS(rho, beta=5.0).run())
    local = fedfast.SAM(rho=rho) if rho else fedfast.SGD()
    close(got, simulated(algorithms.FedGloSS(rho=0.3, beta=5.0, local=local)).state_dict())


def test_fednsam_is_the_public_codes_and_the_simulations():
    got, _ = under_flower(FedNSAM(network(), gamma=0.6, **OPTIONS), rho=0.1)
    close(got, NSAM(0.1).run())
    close(got, simulated(algorithms.FedNSAM(gamma=0.6, rho=0.1)).state_dict())


def test_fedgh_projects_pairs_in_the_order_of_node_ids():
    got, result = under_flower(FedGH(network(), **OPTIONS))
    script = GH()
    close(got, script.run())
    assert script.conflicts > 1  # or it were FedAvg
    sim = simulated("fedgh")
    close(got, sim.state_dict())
    last = result.train_metrics_clientapp[len(COHORTS)]
    told = dict(pair.split("=") for pair in sim.history[-1].scalars.split())
    assert {name: last[name] for name in told} == {k: float(v) for k, v in told.items()}


TABLE = {
    "feddyn": (algorithms.FedDyn(lam=0.25), {}),
    "fedavgm": (algorithms.FedAvgM(beta=0.7), {"server_lr": 0.5}),
    "fedadam": (algorithms.FedAdam(tau=0.05), {"server_lr": 0.2}),
    "fedyogi": (algorithms.FedYogi(tau=0.05, v0=0.0), {"aggregation": "uniform"}),
    "fedadagrad": (algorithms.FedAdagrad(), {"server_lr": 0.1}),
    "by tensor": (algorithms.FedGH(granularity="tensor", momentum=0.5), {}),
    "original": (algorithms.FedGH(reference="original"), {"aggregation": "uniform"}),
    "random": (algorithms.FedGH(reference="current", order="random"), {"seed": 3}),
    "official": (algorithms.FedGloSS(beta=4.0, rho0=0.1, T_s=2), {}),
}


@pytest.mark.parametrize("case", TABLE)
def test_any_algorithm_whose_server_needs_models_alone(case):
    algorithm, options = TABLE[case]
    strategy = AlgorithmStrategy(network(), algorithm, clients=len(SIZES), **options, **OPTIONS)
    beta = {"feddyn": 4.0, "official": 4.0}.get(case)
    got, _ = under_flower(strategy, beta=beta)
    close(got, simulated(algorithm, **options).state_dict())


@pytest.mark.parametrize("name", ["FedYogi", "FedAdagrad", "FedAvgM"])
def test_flowers_own_rules_are_ours(name):
    """As docs/migration.md has it: their second moment starts at 0. Buffers they step too."""
    own = {"FedAvgM": {"server_momentum": 0.7, "server_learning_rate": 0.1}}.get(name, {"eta": 0.1})
    start = {"beta": 0.7} if name == "FedAvgM" else {"v0": 0.0}
    algorithm = getattr(algorithms, name)(**start)
    ours = AlgorithmStrategy(network(), algorithm, server_lr=0.1, **OPTIONS)
    got, _ = under_flower(ours)
    expected, _ = under_flower(getattr(theirs, name)(**own, **OPTIONS))
    for parameter, _ in network().named_parameters():
        assert (got[parameter] - expected[parameter]).abs().max() < 1e-10, parameter


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("scaffold", "sends 2 models down and 1 up"),
        ("naive-fedgloss", "sends 2 models down and 2 up"),
        ("fedspeed", "sums h_i of the clients"),
        ("fedcr", "keeps .* at the server too"),
    ],
)
def test_algorithms_that_need_more_are_refused(name, reason):
    with pytest.raises(ValueError, match=rf"algorithm: expected .* alone; {name} {reason}"):
        AlgorithmStrategy(fedfast.models.Stochastic(nn.Linear(5, 6), nn.Linear(3, 4)), name)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"aggregation": "sample"}, ValueError, "aggregation: unknown name 'sample'; did you mean"),
        ({"clients": 0}, ValueError, "clients: expected at least 1 or None; got 0"),
        ({"server_lr": float("nan")}, ValueError, "lr: expected a finite number"),
        ({"fraction_trian": 0.1}, TypeError, "fraction_trian"),
        ({"rho": -1.0}, ValueError, "rho: expected a finite number >= 0"),
    ],
)
def test_bad_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        FedGloSS(network(), **options)


def test_a_model_that_is_not_the_one_sent_is_told():
    with pytest.raises(TypeError, match="algorithm: expected an algorithm; got 3"):
        AlgorithmStrategy(network(), 3)
    with pytest.raises(TypeError, match=r"model: expected an nn.Module; got \{\}"):
        FedGH({})
    grid = InProcessGrid(client_app(network(), DATA, BATCHES, lr=LR), COHORTS)
    other = ArrayRecord(nn.Linear(8, 6).state_dict())
    with pytest.raises(ValueError, match=r"arrays: expected 0.weight \[6, 8\] .*; got nothing"):
        FedGH(network()).configure_train(1, other, ConfigRecord(), grid)


def test_a_client_that_is_not_finite_counts_as_unchanged():
    broken = [DATA[0], (DATA[1][0] * float("inf"), YS[1]), *DATA[2:]]
    cohorts = [[0, 1, 2]]
    strategy = FedNSAM(network(), **OPTIONS)
    app = client_app(network(), broken, BATCHES, lr=LR)
    start = network().state_dict()
    result = strategy.start(InProcessGrid(app, cohorts), ArrayRecord(start), num_rounds=1)
    two = FedNSAM(network(), **OPTIONS)
    expected, _ = under_flower(two, cohorts=[[0, 2]])
    got = result.arrays.to_torch_state_dict()
    share = (SIZES[0] + SIZES[2]) / sum(SIZES[:3])
    for name in ("0.weight", "4.bias", "1.running_var"):
        moved = share * (expected[name] - start[name])
        assert (got[name] - start[name] - moved).abs().max() < 1e-12


def test_nobody_answers_and_everything_stays():
    strategy = FedNSAM(network(), **OPTIONS)
    grid = InProcessGrid(client_app(network(), DATA, BATCHES, lr=LR), COHORTS)
    list(strategy.configure_train(1, ArrayRecord(network().state_dict()), ConfigRecord(), grid))
    assert strategy.aggregate_train(1, []) == (None, None)
    got, _ = under_flower(strategy)
    close(got, under_flower(FedNSAM(network(), **OPTIONS))[0], 0.0)


def test_tied_weights_are_one_tensor():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    rows = RecordRows(model)
    record = ArrayRecord(model.state_dict())
    assert rows.layout.parameters == 9 + 3 + 3
    back = rows.write(rows.read(record) * 2, record).to_torch_state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(back[name], 2 * value)


def test_a_dual_of_another_model_is_told():
    state, one, other = RecordDict(), nn.Linear(3, 2), nn.Linear(3, 1)
    Dual(one, state, beta=2.0).keep()
    assert KEY in state
    with pytest.raises(ValueError, match="state: expected a dual of this model"):
        Dual(other, state, beta=2.0)
    with pytest.raises(ValueError, match="beta: expected a number above 0; got 0"):
        Dual(one, state, beta=0)


@pytest.mark.parametrize("made", [FedNSAM, FedGH])
def test_over_nodes_that_train_together(made):
    """`FastGrid` gives the replies that the app's functions give."""
    app = flower_app.make_app()
    theirs, _ = flower_app.run(app, made(flower_app.Net(), fraction_train=0.5))
    ours, grid = flower_app.run(
        app, made(flower_app.Net(), fraction_train=0.5), flower_app.training()
    )
    assert grid.reasons == {}
    assert flower_app.close(flower_app.arrays(ours), flower_app.arrays(theirs))
