"""Flower's strategies over `FastGrid`, against the same apps called message by message."""

import pytest

pytest.importorskip("flwr")

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import flower_app
import numpy as np
import torch
from flower_app import HEAVY_BALL, Net, arrays, close, load_data, make_app, run, training
from flwr.app import ConfigRecord
from flwr.serverapp import strategy
from torch import nn
from torch.utils.data import DataLoader

from fedfast.algorithms import FedSAM

STRATEGIES = {
    "FedAvg": partial(strategy.FedAvg, fraction_train=0.5),
    "FedProx": partial(strategy.FedProx, proximal_mu=0.5),
    "FedAdam": partial(strategy.FedAdam, eta=0.01),
    "FedYogi": partial(strategy.FedYogi, eta=0.01),
    "FedTrimmedAvg": strategy.FedTrimmedAvg,
    "Krum": partial(strategy.Krum, num_malicious_nodes=1),
}


def equal_metrics(ours, theirs):
    """Metrics of all rounds."""
    assert ours.keys() == theirs.keys()
    for t, record in theirs.items():
        assert record.keys() == ours[t].keys()
        for name, value in record.items():
            assert ours[t][name] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_give_what_the_app_gives(name):
    """Models, and metrics; with unequal batches means over batches are none over samples."""
    app, make = make_app(), STRATEGIES[name]
    theirs, _ = run(app, make())
    ours, grid = run(app, make(), training())
    assert grid.reasons == {}
    assert close(arrays(ours), arrays(theirs))
    equal_metrics(ours.train_metrics_clientapp, theirs.train_metrics_clientapp)
    equal_metrics(ours.evaluate_metrics_clientapp, theirs.evaluate_metrics_clientapp)


class PerNode(strategy.FedAvg):
    """Every node has its own learning rate, epochs, batch size and proximal mu."""

    def configure_train(self, server_round, arrays, config, grid):
        for i, message in enumerate(super().configure_train(server_round, arrays, config, grid)):
            own = {"lr": 0.02 * (i + 1), "local-epochs": 1 + i % 3, "batch-size": 4 + i % 2}
            mu = {"proximal-mu": 0.5 * (i % 2)}
            message.content = message.content.copy()
            message.content["config"] = ConfigRecord({**config, **own, **mu})
            yield message


def test_every_node_may_have_a_config_of_its_own():
    app = make_app()
    theirs, _ = run(app, PerNode())
    ours, grid = run(app, PerNode(), training())
    assert grid.reasons == {}
    assert close(arrays(ours), arrays(theirs))


class WithNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x):
        return self.scale * self.layers(x)


def whole(partition_id, num_partitions, batch_size):
    """The same samples without the last smaller batch: BatchNorm takes no single sample."""
    train, test = load_data(partition_id, num_partitions, batch_size)
    return DataLoader(train.dataset, batch_size=batch_size, drop_last=True), test


def dicts(partition_id, num_partitions, batch_size):
    """The same samples as dicts."""
    loaders = load_data(partition_id, num_partitions, batch_size)
    named = ([{"img": x, "label": int(y)} for x, y in loader.dataset] for loader in loaders)
    return tuple(DataLoader(samples, batch_size=batch_size) for samples in named)


def test_running_statistics_counters_and_constants():
    app, declared = make_app(net=WithNorm, data=whole), training(model=WithNorm, data=whole)
    theirs, _ = run(app, strategy.FedAvg(), net=WithNorm)
    ours, grid = run(app, strategy.FedAvg(), declared, net=WithNorm)
    assert grid.reasons == {}
    assert close(arrays(ours), arrays(theirs))
    kinds = {name: a.dtype for name, a in theirs.arrays.items()}
    assert {name: a.dtype for name, a in ours.arrays.items()} == kinds


def test_batches_that_are_dicts():
    app = make_app(data=dicts, before=lambda m, b: (b["img"], b["label"]))
    theirs, _ = run(app, strategy.FedAvg(fraction_evaluate=0.0))
    ours, grid = run(app, strategy.FedAvg(fraction_evaluate=0.0), training(data=dicts))
    assert grid.reasons == {}
    assert close(arrays(ours), arrays(theirs))


class Sharpness(torch.optim.Optimizer):
    """SAM as it is copied everywhere: a first step up the gradient, a second one from there."""

    def __init__(self, params, lr, rho=0.1, momentum=0.0):
        super().__init__(params, {"lr": lr, "rho": rho, "adaptive": False})
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=lr, momentum=momentum)
        self.param_groups = self.base_optimizer.param_groups


def test_sam_over_sgd_is_recognised():
    from fedfast.integrations.flower.local_rules import local_rule

    rule = local_rule(partial(Sharpness, rho=0.2, momentum=0.5), 0.3, 0.0)
    assert (rule.lr, rule.algorithm.local.rho, rule.algorithm.local.momentum) == (0.3, 0.2, 0.5)


def sharp(made, loss_of, rho=0.2):
    """SAM by hand: the gradient at w + rho g / |g|, the step from w."""
    made.zero_grad()
    loss, _ = loss_of()
    loss.backward()
    weights = [p for group in made.param_groups for p in group["params"]]
    norm = torch.stack([p.grad.norm() for p in weights]).norm()
    steps = [rho * p.grad / norm for p in weights]
    with torch.no_grad():
        torch._foreach_add_(weights, steps)
    made.zero_grad()
    loss_of()[0].backward()
    with torch.no_grad():
        torch._foreach_sub_(weights, steps)
    made.step()
    return loss.item()


@pytest.mark.parametrize("named", [False, True])
def test_sam(named):
    """Declared as fedfast's algorithm, or as a SAM class over SGD with momentum."""
    app = make_app(step=sharp, optimizer=torch.optim.SGD if named else HEAVY_BALL)
    declared = FedSAM(rho=0.2) if named else partial(Sharpness, rho=0.2, momentum=0.9)
    theirs, _ = run(app, strategy.FedAvg())
    ours, grid = run(app, strategy.FedAvg(), training(optimizer=declared))
    assert grid.reasons == {}
    assert close(arrays(ours), arrays(theirs))


def refused(reason, app, declared, kind="train", net=Net):
    """A warning says why, and results are the app's own to the bit."""
    theirs, _ = run(app, strategy.FedAvg(), net=net)
    with pytest.warns(UserWarning, match=reason):
        ours, grid = run(app, strategy.FedAvg(), declared, net=net)
    assert list(grid.reasons) == [kind]
    for name, value in arrays(theirs).items():
        assert np.array_equal(arrays(ours)[name], value)
    equal_metrics(ours.train_metrics_clientapp, theirs.train_metrics_clientapp)
    equal_metrics(ours.evaluate_metrics_clientapp, theirs.evaluate_metrics_clientapp)


def noisy(partition_id, num_partitions, batch_size):
    loader, test = load_data(partition_id, num_partitions, batch_size)

    def noise(samples):
        x, y = zip(*samples, strict=True)
        return torch.stack(x) + torch.randn(len(x), 8), torch.stack(y)

    return DataLoader(loader.dataset, batch_size=batch_size, collate_fn=noise), test


WRONG = {
    "the optimizer Adam": {"optimizer": torch.optim.Adam},
    "differ from the declared training's": {"optimizer": torch.optim.SGD},
    "differ from the declared.*lr=0.001": {"lr": "learning-rate"},
    "drew .* batches of .* samples .* gives .* batches of": {"epochs": "epochs"},
    "SGD with dampening": {"optimizer": partial(torch.optim.SGD, momentum=0.9, dampening=0.1)},
    "random transforms": {"data": noisy},
    "'alpha': neither": {"data": lambda alpha: load_data(0, 1, alpha)},
    "data from list": {"data": lambda partition_id: [[1], [2]]},
    "the algorithm scaffold": {"optimizer": "scaffold"},
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_differs_is_said_and_left_to_the_app(reason):
    both = reason in ("random transforms", "'alpha': neither", "data from list")
    if not both:
        refused(reason, make_app(), training(**WRONG[reason]))
        return
    with pytest.warns(UserWarning, match=reason):
        ours, grid = run(make_app(), strategy.FedAvg(), training(**WRONG[reason]))
    theirs, _ = run(make_app(), strategy.FedAvg())
    assert close(arrays(ours), arrays(theirs), 0.0)


def test_a_metric_that_nothing_explains():
    app = make_app(extra=lambda model, context: {"norm": float(model.last.weight.detach().norm())})
    refused("the metric 'norm'", app, training())


def test_node_state_is_the_apps():
    from flwr.app import MetricRecord

    def count(model, context):
        seen = context.state["seen"]["n"] if "seen" in context.state else 0
        context.state["seen"] = MetricRecord({"n": seen + 1})
        return {"seen": seen + 1}

    refused("keeps something in context.state", make_app(extra=count), training())


def test_nothing_declared():
    server = flower_app.ServerApp()
    server.main()(lambda grid, context: None)
    with pytest.warns(UserWarning, match="nothing is declared"):
        flower_app.run_simulation(server, make_app(), 2)


def test_flowers_own_simulation_gives_the_same():
    """On Ray, with `FastGrid` over the simulation's own grid: nodes, partitions, strategies."""
    pytest.importorskip("ray")
    here = Path(flower_app.__file__).parent
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0"}
    environment["PYTHONPATH"] = f"{here.parent}:{environment.get('PYTHONPATH', '')}"
    command = [sys.executable, "-W", "ignore", "flower_ray.py"]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found.pop("reasons") == {}
    partitions = found.pop("partitions")
    assert all(ours == theirs for ours, theirs in partitions) and len(partitions) > 2
    assert set(found) >= {"FedAvg", "FedProx", "FedAdam", "FedTrimmedAvg", "Krum"}
    for both in found.values():
        (ours, metrics), (theirs, expected) = both["fedfast"], both["flower"]
        assert metrics == pytest.approx(expected, rel=1e-5)
        assert close(
            {k: np.array(v) for k, v in ours.items()}, {k: np.array(v) for k, v in theirs.items()}
        )
