"""Fine-tuning, personal models and accuracies on the clients' own test parts."""

import math
from pathlib import Path

import pytest
import torch
from federation import arrays, batches_of, flat, mlp, trained
from interrupts import differences, everything
from torch import nn

import fedfast
from fedfast import algorithms as alg
from fedfast import config
from fedfast.cli import main
from fedfast.history import read_runs

SIZES, TESTS = [10, 4, 14, 6, 11], [5, 0, 3, 7, 2]  # no batch of one: BatchNorm1d
SETTINGS = dict(rounds=3, participation=0.4, local_epochs=2, batch_size=4, lr=0.2)


class Norms(nn.Module):
    """Running statistics, dropout and a last layer that is not the last to be registered."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 7)
        self.head = nn.Linear(7, 4)
        self.norm = nn.BatchNorm1d(7)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        return self.head(self.drop(torch.tanh(self.norm(self.body(x)))))


def norms():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return Norms()


def stochastic():
    return fedfast.models.build("stochastic", input_shape=(8,), classes=4, hidden=[7], dimZ=5)


def federation(sizes=SIZES, tests=TESTS):
    xs, ys = arrays(sizes)
    return fedfast.FederatedData.from_arrays(xs, ys, test=list(zip(*arrays(tests), strict=True)))


def run(model, algorithm, data=None, **kwargs):
    return trained(model, data or federation(), algorithm, **(SETTINGS | kwargs))


PERSONAL = {
    "kept": (norms, alg.FedSMOO(keep_models=True)),
    "tuned": (mlp, alg.FedSAM(rho=0.1, fine_tune=alg.FineTune(epochs=2))),
    "tuned-whole": (norms, alg.FedAvgFT(epochs=2, layers="all")),
    "fedala": (mlp, alg.FedALA(s=60, threshold=0.01)),
    "fedala-fsa": (norms, alg.FedALA(p=3, s=100, threshold=2.0, local=alg.FSA(rho_larger=0.9))),
    "fedfsa": (norms, alg.FedFSA(TopC=1)),
    "fedcr": (stochastic, alg.FedCR(L=3)),
    "fedsol": (norms, alg.FedSOL(momentum=0.5)),
    "fedsol-adaptive": (mlp, alg.FedSOL(perturbed="all", strength="adaptive")),
}


@pytest.mark.parametrize("case", PERSONAL)
def test_chunks_and_threads_change_no_bit(case):
    make, algorithm = PERSONAL[case]
    outcomes = []
    for chunk, threads in [(None, 1), (1, 2), (2, 1)]:
        settings = dict(chunk=chunk, threads=threads, participation=0.6, clip_norm=2.0)
        outcomes.append(everything(run(make(), algorithm, **settings)))
    assert not any(differences(outcomes[0], other) for other in outcomes[1:])


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsam", "fedala"])
def test_kept_models_are_what_the_server_has_averaged(algorithm):
    kwargs = dict(rounds=1, participation=0.6, aggregation="uniform", dtype=torch.float64)
    made = alg.by_name(algorithm, keep_models=True)
    model = mlp(dtype=torch.float64)
    sim = run(model, made, **kwargs)
    took_part = {int(k) for k in sim.schedule.round(0).clients}
    rows = {k: flat(sim.client_state_dict(k)) for k in range(len(SIZES))}
    mean = torch.stack([rows[k] for k in took_part]).mean(0)
    assert (mean - flat(sim.state_dict())).abs().max() < 1e-12
    for k in rows.keys() - took_part:
        assert torch.equal(rows[k], flat(model.state_dict()))
    # Evaluated in the tested round, by torch alike.
    xs, ys = arrays(TESTS)
    right = []
    for k in rows:
        model.load_state_dict(sim.client_state_dict(k))
        if len(ys[k]):
            right.append(float((model(xs[k].double()).argmax(1) == ys[k]).double().mean()))
    assert sim.history[0].personal_accuracy == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("layers", ["last", "all"])
def test_fine_tuning_is_torch_sgd_on_the_final_model(layers, backend):
    tune = alg.FineTune(epochs=3, layers=layers)
    kwargs = dict(lr_decay=0.9, weight_decay=0.01, dtype=torch.float64, backend=backend)
    sim = run(mlp(dtype=torch.float64), alg.FedSAM(rho=0.1, fine_tune=tune), **kwargs)
    untuned = run(mlp(dtype=torch.float64), alg.FedSAM(rho=0.1), **kwargs)
    assert torch.equal(flat(sim.state_dict()), flat(untuned.state_dict()))
    xs, ys = arrays(SIZES)
    everybody = dict(participation=1.0, local_epochs=3, batch_size=4, seed=0)
    extra = fedfast.Schedule.draw(SIZES, rounds=4, **everybody).round(3)
    for client, batches in batches_of(extra).items():
        model = mlp(dtype=torch.float64)
        model.load_state_dict(sim.state_dict())
        moved = model[-1] if layers == "last" else model
        optimizer = torch.optim.SGD(moved.parameters(), 0.2 * 0.9**2, weight_decay=0.01)
        for rows in batches:
            optimizer.zero_grad()
            x, y = xs[client][rows].double(), ys[client][rows]
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        ours = sim.client_state_dict(client)
        assert (flat(ours) - flat(model.state_dict())).abs().max() < 1e-12
        assert (flat(ours) - flat(sim.state_dict())).abs().max() > 1e-3
        if layers == "last":
            assert torch.equal(ours["1.weight"], sim.state_dict()["1.weight"])


def test_the_last_linear_alone_moves_wherever_it_lies_and_running_statistics_stay():
    sim = run(norms(), alg.FedAvgFT(epochs=2))
    ours, common = sim.client_state_dict(2), sim.state_dict()
    for name, t in common.items():
        assert torch.equal(ours[name], t) != name.startswith("head")
    whole = run(norms(), alg.FedAvgFT(epochs=2, layers="all")).client_state_dict(2)
    assert not torch.equal(whole["norm.running_mean"], common["norm.running_mean"])


def test_a_client_that_diverges_while_tuning_keeps_the_final_model():
    xs, ys = arrays(SIZES)
    xs[2] = xs[2] * 1e30
    schedule = fedfast.Schedule.explicit([[0, 1]], [[[[0, 1, 2, 3]]] * 2])
    data = fedfast.FederatedData.from_arrays(xs, ys)
    model = nn.Sequential(nn.Linear(8, 4))
    sim = run(model, alg.FedAvgFT(epochs=2), data, schedule=schedule, lr=10.0)
    assert torch.equal(flat(sim.client_state_dict(2)), flat(sim.state_dict()))
    assert not torch.equal(flat(sim.client_state_dict(3)), flat(sim.state_dict()))


@pytest.mark.parametrize("case", ["fedala", "fedfsa", "fedcr"])
def test_personal_models_wait_for_their_clients(case):
    make, algorithm = PERSONAL[case]
    cohorts = [[0, 1], [1, 2], [2], [0]]
    schedule = fedfast.Schedule.explicit(
        cohorts, [[[[0, 1, 2], [3, 1]]] * len(cohort) for cohort in cohorts]
    )
    sim = fedfast.Simulation(make(), federation(), algorithm, schedule=schedule)
    initial = flat(sim.state_dict())
    before = [initial] * 4
    for t, _ in enumerate(sim):
        now = [flat(sim.client_state_dict(i)) for i in range(4)]
        for i in range(4):
            assert torch.equal(now[i], before[i]) != (i in cohorts[t])
        before = now
    assert torch.equal(before[3], initial)


def test_a_personal_model_is_the_clients_own_after_its_last_step():
    schedule = fedfast.Schedule.explicit([[2]], [[[[0, 1, 2], [3, 1]]]])
    sim = run(norms(), PERSONAL["fedfsa"][1], schedule=schedule)
    mine, common = sim.client_state_dict(2), sim.state_dict()
    for name in ("head.weight", "norm.running_var"):  # the mean over one client is that client
        assert torch.allclose(mine[name], common[name], atol=1e-6)
        assert not torch.equal(mine[name], norms().state_dict()[name])


def test_accuracies_are_those_of_the_models_on_the_clients_test_parts():
    sim = run(mlp(), alg.FedFSA(TopC=1), eval_every=2)
    parts = list(zip(*arrays(TESTS), strict=True))
    evaluator, hits = mlp(), {"own": [], "common": []}
    for i, (x, y) in enumerate(parts):
        for name, state in (("own", sim.client_state_dict(i)), ("common", sim.state_dict())):
            evaluator.load_state_dict(state)
            hits[name].append(int((evaluator(x).argmax(1) == y).sum()))
    scores, row = sim.evaluate_clients(), sim.history[-1]
    assert scores.personal.tolist() == hits["own"] and scores.common.tolist() == hits["common"]
    shares = {k: [h / n for h, n in zip(v, TESTS, strict=True) if n] for k, v in hits.items()}
    assert row.personal_accuracy == pytest.approx(sum(shares["own"]) / 4)
    assert row.personal_pooled == pytest.approx(sum(hits["own"]) / sum(TESTS))
    assert row.local_accuracy == pytest.approx(sum(shares["common"]) / 4)
    assert row.pooled_accuracy == pytest.approx(sum(hits["common"]) / sum(TESTS))
    assert math.isnan(sim.history[0].pooled_accuracy)
    assert not math.isnan(sim.history[1].personal_accuracy)


def test_the_global_model_is_evaluated_in_batches_that_ignore_clients():
    tests = [700, 1, 0, 500, 300]
    sim = run(mlp(), "fedavg", federation(tests=tests), rounds=1)
    own = sim.model()
    expected = [int((own(x).argmax(1) == y).sum()) for x, y in zip(*arrays(tests), strict=True)]
    scores = sim.evaluate_clients()
    assert scores.common.tolist() == expected and scores.personal is None
    assert math.isnan(sim.history[-1].personal_accuracy)


def test_fine_tuned_accuracies_come_with_the_last_round_only():
    sim = run(mlp(), "fedavg-ft")
    found = [row.personal_accuracy for row in sim.history]
    assert [math.isnan(a) for a in found] == [True, True, False]
    assert not any(math.isnan(row.local_accuracy) for row in sim.history)


@pytest.mark.parametrize(
    ("algorithm", "i", "message"),
    [
        ("fedavg-ft", 0, "fine-tuning follows the last round"),
        ("fedsol", 0, "fedsol keeps none; FedFSA, FedALA and FedCR do"),
        (PERSONAL["fedala"][1], 5, "i: expected 0 <= i < 5; got 5"),
    ],
)
def test_a_personal_model_that_is_not_there_is_refused(algorithm, i, message):
    sim = fedfast.Simulation(mlp(), federation(), algorithm, **SETTINGS)
    with pytest.raises(ValueError, match=message):
        sim.client_state_dict(i)


def test_test_parts_are_validated():
    data = fedfast.FederatedData.from_arrays(*arrays(SIZES))
    with pytest.raises(ValueError, match="clients: they have no test parts"):
        fedfast.Simulation(mlp(), data, "fedavg").evaluate_clients()
    tests = [(x, y + 3) for x, y in zip(*arrays(TESTS), strict=True)]
    with pytest.raises(ValueError, match=r"clients.test\[0\]: label \d is out of range"):
        fedfast.Simulation(mlp(), data.with_test(tests), "fedavg")


def test_a_model_without_a_last_layer_of_its_own_is_refused():
    frozen = mlp()
    frozen[-1].weight.requires_grad_(False)
    for algorithm in (alg.FedAvgFT(), alg.FedSOL()):
        with pytest.raises(ValueError, match="expected a model whose last Linear has trained"):
            fedfast.Simulation(frozen, federation(), algorithm)


@pytest.mark.parametrize(
    ("name", "parameters", "error", "message"),
    [
        ("fedavg-ft", {"epochs": 0}, ValueError, "epochs: expected an integer >= 1; got 0"),
        ("fedavg-ft", {"layers": "lst"}, ValueError, "layers: unknown name 'lst'; did you mean"),
        ("fedavg", {"fine_tune": {"epoch": 1}}, ValueError, "fine-tune, parameter: unknown name"),
        ("fedavg", {"fine_tune": 3}, TypeError, "fine_tune: expected a fine-tuning, its name or"),
        ("fedala", {"s": 0}, ValueError, r"s: expected a number in \(0, 100\]; got 0"),
        ("fedala", {"p": 0}, ValueError, "p: expected an integer >= 1; got 0"),
        ("fedala", {"eta": -1.0}, ValueError, "eta: expected a finite number >= 0"),
        ("fedala", {"threshold": 0}, ValueError, "threshold: expected a finite number > 0"),
        ("fedcr", {"L": 0}, ValueError, "L: expected an integer >= 1; got 0"),
        ("fedcr", {"beta2": 2.0}, ValueError, r"beta2: expected a number in \[0, 1\]; got 2"),
        ("fedsol", {"T": 0.0}, ValueError, "T: expected a finite number > 0; got 0"),
        ("fedsol", {"perturbed": "body"}, ValueError, "perturbed: unknown name 'body'"),
        ("plgu", {}, ValueError, "plgu: its radii per layer are described in an abstract only"),
    ],
)
def test_bad_parameters_are_named(name, parameters, error, message):
    with pytest.raises(error, match=message):
        alg.by_name(name, **parameters)


def test_by_name_takes_fine_tuning_as_a_mapping():
    made = alg.by_name("fedfsa", fine_tune={"epochs": 3, "layers": "all"})
    assert made == alg.FedFSA(fine_tune=alg.FineTune(3, "all"))
    assert alg.by_name("fedavg", fine_tune=None) == alg.FedAvg()
    with pytest.raises(TypeError, match="fine_tune: expected a FineTune or None; got 'x'"):
        alg.FedAvg(fine_tune="x")
    with pytest.raises(ValueError, match="fedala: clients that start at models of their own under"):
        alg.FedALA(drift=alg.ControlVariate())
    with pytest.raises(ValueError, match="p: expected at most 4 tensors; got 5"):
        fedfast.Simulation(mlp(), federation(), alg.FedALA(p=5))
    with pytest.raises(ValueError, match="model: expected one with a stochastic encoder"):
        fedfast.Simulation(mlp(), federation(), "fedcr")


def test_a_config_has_all_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(
        "data: {name: digits}\npartition: {name: iid, clients: 6}\n"
        "model: {name: mlp, hidden: [8]}\n"
        "algorithms:\n  fedala: {s: 50}\n  tuned: {name: fedsam, fine_tune: {epochs: 2}}\n"
        "rounds: 2\nparticipation: 0.5\nbatch_size: 50\nlocal_test: 0.25\nthreads: 1\n"
    )
    assert main(["run", "own.yaml"]) == 0
    runs = read_runs("runs/own/history.csv")
    assert all(0 <= row.personal_accuracy <= 1 for row in runs["fedala"])
    assert [math.isnan(row.personal_accuracy) for row in runs["tuned"]] == [True, False]
    assert "| personal |" in Path("runs/own/summary.md").read_text()
    again = config.load("runs/own/config.yaml")
    assert again.algorithms["tuned"].options()["fine_tune"]["layers"] == "last"
    flags = ["--algorithms.tuned.fine_tune.epochs", "5"]
    changed = config.load("own.yaml", flags).algorithms["tuned"].options()
    assert changed["fine_tune"]["epochs"] == 5


@pytest.mark.parametrize("case", ["fedala", "fedcr", "fedfsa"])
def test_a_client_that_diverges_keeps_its_personal_model_and_spoils_nobodys(case):
    make, algorithm = PERSONAL[case]
    xs, ys = arrays(SIZES)
    model, xs[1] = nn.Sequential(nn.Linear(8, 4)), xs[1] * 1e38
    settings = SETTINGS | dict(participation=1.0, on_divergence="continue", lr=10.0)
    if case == "fedcr":
        model, settings["lr"] = make(), 0.05
    elif case == "fedala":
        algorithm = alg.FedALA(p=1)
    data = fedfast.FederatedData.from_arrays(xs, ys)
    sim = fedfast.Simulation(model, data, algorithm, **settings)
    initial = flat(sim.state_dict())
    sim.run(progress=False)
    assert all("client 1 non-finite" in row.status for row in sim.history)
    assert torch.equal(flat(sim.client_state_dict(1)), initial)
    assert all(t.isfinite().all() for t in sim._engine.state.tensors().values())
    if case == "fedcr":
        assert sim._engine.state.values["r_mu"].any()  # the others' Gaussians count
    assert flat(sim.client_state_dict(2)).isfinite().all()
    assert not torch.equal(flat(sim.client_state_dict(2)), initial)
