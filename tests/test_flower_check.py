"""Wrong declarations: whatever differs from the app's own function is found, and said."""

import pytest

pytest.importorskip("flwr")

import warnings
from functools import partial

import flower_app
import torch
import torch.nn.functional as F
from flower_app import NODES, Net, arrays, close, load_data, make_app, run, training
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import FedAvg, FedProx
from torch import nn
from torch.optim import SGD

from fedfast.integrations.flower.nodes import checked_partitions


def reasons(app, declared, net=Net, rounds=3, make=FedAvg):
    """Why the app's own functions answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(app, make(), declared, net=net, rounds=rounds)[1].reasons


def smoothed(outputs, y):
    return F.cross_entropy(outputs, y, label_smoothing=1e-3)


SMALL = {
    "weight decay": ({"optimizer": partial(SGD, momentum=0.9, weight_decay=1e-4)}, {}),
    "momentum": ({"optimizer": partial(SGD, momentum=0.9001)}, {}),
    "label smoothing": ({}, {"loss": smoothed}),
    "proximal term": ({}, {"proximal_mu": 1e-4}),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_differences(name):
    """What one short training in float32 shows no more than rounding does."""
    own, declared = SMALL[name]
    found = reasons(make_app(**own), training(**declared), rounds=1)
    assert "differ from the declared training's" in found["train"]


def the_first(partition_id, num_partitions, batch_size):
    return load_data(0, num_partitions, batch_size)


def test_another_nodes_samples():
    """A data function that forgets the partition is right for one node."""
    assert set(reasons(make_app(), training(data=the_first), rounds=1)) == {"train", "evaluate"}


def later(monkeypatch, change):
    """Settings of messages after those of the first round are changed."""
    own = flower_app.settings

    def settings(message, context):
        lr, epochs, mu = own(message, context)
        late = message.content["config"]["server-round"] > 1
        return change(lr, epochs, mu) if late else (lr, epochs, mu)

    monkeypatch.setattr(flower_app, "settings", settings)


def test_what_changes_in_later_rounds(monkeypatch):
    later(monkeypatch, lambda lr, epochs, mu: (lr / 2, epochs, mu))
    found = reasons(make_app(), training())["train"]
    assert "differ from the declared" in found
    assert "found in call 2 only: replies of the earlier ones may differ" in found


def test_what_a_function_remembers_elsewhere():
    """Personal layers that a process keeps: alike in a node's first round alone."""
    kept = {}

    def personal(model, context):
        node, count = context.node_id, kept.get(context.node_id, 0)
        kept[node] = count + 1
        with torch.no_grad():
            model.last.bias += 0.1 * (count > 1)  # twice called in the first round
        return {}

    assert (
        "differ from the declared"
        in reasons(make_app(extra=personal), training(), rounds=8)["train"]
    )


def test_a_term_that_the_first_node_has_not(monkeypatch):
    """Half of the nodes send mu: the first of them is checked too, whoever came first."""
    own = flower_app.settings

    def settings(message, context):
        lr, epochs, mu = own(message, context)
        return lr, epochs, 3 * mu

    class Half(FedProx):
        def configure_train(self, server_round, arrays, config, grid):
            found = super().configure_train(server_round, arrays, config, grid)
            for i, message in enumerate(found):
                message.content = message.content.copy()
                own = {**message.content["config"], "proximal-mu": 0.5 * (0 < i < NODES - 1)}
                message.content["config"] = ConfigRecord(own)
                yield message

    monkeypatch.setattr(flower_app, "settings", settings)
    found = reasons(make_app(), training(), rounds=1, make=partial(Half, proximal_mu=0.5))
    assert "mu=0.5" in found["train"]


class Norm(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def halves(partition_id, num_partitions, batch_size):
    train, test = load_data(partition_id, num_partitions, batch_size)
    make = partial(torch.utils.data.DataLoader, batch_size=batch_size)
    return make(train.dataset, drop_last=True), make(test.dataset)


def test_a_train_function_in_evaluation_mode():
    app = make_app(net=lambda: Norm().eval(), data=halves)
    found = reasons(app, training(model=Norm, data=halves), net=Norm, rounds=1)
    assert "differ from the declared" in found["train"]


def test_a_module_of_the_callers():
    """It is copied: neither its mode nor its values change, and it trains in training mode."""
    module = Norm().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    app, declared = make_app(net=Norm, data=halves), training(model=module, data=halves)
    theirs, _ = run(app, FedAvg(), net=Norm)
    ours, grid = run(app, FedAvg(), declared, net=Norm)
    assert grid.reasons == {} and close(arrays(ours), arrays(theirs))
    assert not module.training
    assert all(torch.equal(value, before[n]) for n, value in module.state_dict().items())


def test_a_node_whose_function_raises():
    """The others train together; that node fails as it does by itself, in every round."""

    broken = []

    def fails(model, context):
        broken[:] = broken or [context.node_id]
        if context.node_id in broken:
            raise OSError("broken node")
        return {}

    app, make = make_app(extra=fails), partial(FedAvg, fraction_evaluate=0.0)
    with pytest.warns(UserWarning, match=r"of node 100\d are .*: it raises .*broken node"):
        ours, grid = run(app, make(), training())
    theirs, _ = run(app, make())
    assert grid.reasons == {} and close(arrays(ours), arrays(theirs))


def test_a_function_that_raises_everywhere():
    def fails(model, context):
        raise OSError("broken app")

    found = reasons(make_app(extra=fails), training(), rounds=1)
    assert "4 nodes are left to it: it raises" in found["train"] and "broken app" in found["train"]


def test_arrays_beside_the_models():
    """Messages or replies with more arrays: what a function does with them is not declared."""

    class Loose(Net):
        def load_state_dict(self, state):
            return super().load_state_dict(state, strict=False)

    class More(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            more = ArrayRecord({**arrays, "momentum": next(iter(arrays.values()))})
            return super().configure_train(server_round, more, config, grid)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, grid = run(make_app(net=Loose), More(fraction_evaluate=0.0), training(), rounds=1)
    assert "5 arrays for the 4 of the declared model's state dict" in grid.reasons["train"]


@pytest.mark.parametrize("given", [{7: 0, 8: 0}, {7: 1, 8: 2}])
def test_partitions_of_nodes(given):
    with pytest.raises(ValueError, match=r"partitions: expected each of 0..1 once, for 2 nodes"):
        checked_partitions(given)
    assert checked_partitions({7: 1, 9: 0}) == {7: 1, 9: 0}


def test_float64_needs_nothing_of_the_app():
    """A function that casts to float32 is checked in float32 alone."""
    app = make_app(before=lambda model, batch: (batch[0].float(), batch[1]))
    theirs, _ = run(app, FedAvg())
    ours, grid = run(app, FedAvg(), training())
    assert grid.reasons == {} and close(arrays(ours), arrays(theirs))
