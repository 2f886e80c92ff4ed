"""Wrong declarations: whatever differs from the app's own function is found, and said."""

import pytest

pytest.importorskip("flwr")

import warnings
from functools import partial

import flower_app
import torch
import torch.nn.functional as F
from flower_app import NODES, Net, arrays, close, initial, load_data, make_app, run, training
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg, FedProx
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from fedfast.integrations.flower import run_simulation
from fedfast.integrations.flower.nodes import checked_partitions
from fedfast.integrations.flower.train_rounds import TrainRounds


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
    return DataLoader(train.dataset, batch_size, drop_last=True), DataLoader(
        test.dataset, batch_size
    )


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
    assert "on 4 nodes it raises" in found["train"] and "broken app" in found["train"]


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


class Pretrained(Net):
    """A frozen layer, whose average over nodes rounds, and a constant that does so too."""

    def __init__(self):
        super().__init__()
        fixed = torch.Generator().manual_seed(3)
        with torch.no_grad():
            self.first.weight.copy_(torch.randn(16, 8, generator=fixed))
        self.first.weight.requires_grad_(False)
        self.register_buffer("scale", torch.tensor(1.1))

    def forward(self, x):
        return self.scale * super().forward(x)


def unfrozen(params, lr):
    return SGD([p for p in params if p.requires_grad], lr, momentum=0.9)


class Elsewhere(Pretrained):
    """The same, whose frozen weights only the server has."""

    def __init__(self):
        super().__init__()
        nn.init.normal_(self.first.weight)


@pytest.mark.parametrize("net", [Pretrained, Elsewhere])
def test_frozen_tensors_that_averages_round(net):
    app, make = make_app(net=net, optimizer=unfrozen), partial(FedAvg, fraction_evaluate=0.0)
    theirs, _ = run(app, make(), net=Pretrained)
    declared = training(model=net, optimizer=unfrozen)
    ours, grid = run(app, make(), declared, net=Pretrained)
    assert grid.reasons == {} and close(arrays(ours), arrays(theirs))


def without_samples(partition_id, num_partitions, batch_size):
    """Node 3 has none for either, node 5 fewer than a batch."""
    train, test = load_data(partition_id, num_partitions, batch_size)
    count = {3: 0, 5: batch_size - 1}.get(partition_id, 10)
    some, own = TensorDataset(*train.dataset[:count]), TensorDataset(*test.dataset[:count])
    return DataLoader(some, batch_size, drop_last=True), DataLoader(own, batch_size)


def test_nodes_without_samples_or_batches_are_the_apps():
    app, declared = make_app(data=without_samples), training(data=without_samples)
    theirs, _ = run(app, FedAvg())
    with pytest.warns(UserWarning, match="node 100[35].*: there is no") as said:
        ours, grid = run(app, FedAvg(), declared)
    assert len(said) == 2 and grid.reasons == {}
    assert close(arrays(ours), arrays(theirs))
    assert ours.evaluate_metrics_clientapp[3] == pytest.approx(theirs.evaluate_metrics_clientapp[3])


class Stragglers(FedAvg):
    """Every second node trains for no epoch at all, others in each round."""

    def configure_train(self, server_round, arrays, config, grid):
        for message in super().configure_train(server_round, arrays, config, grid):
            epochs = (message.metadata.dst_node_id + server_round) % 2
            own = ConfigRecord({**config, "local-epochs": epochs})
            message.content = RecordDict({"arrays": arrays, "config": own})
            yield message


def test_a_node_without_batches_trains_in_other_rounds(monkeypatch):
    """What it is left to its own function for passes."""
    answered = []
    own = TrainRounds.answer

    def answer(self, messages, contexts):
        answered.append(own(self, messages, contexts))
        return answered[-1]

    monkeypatch.setattr(TrainRounds, "answer", answer)
    app, make = make_app(), partial(Stragglers, fraction_evaluate=0.0)
    with pytest.warns(UserWarning, match="there is no batch"):
        ours, _ = run(app, make(), training())
    assert [len(replies) for replies in answered] == [4, 4, 4]
    assert close(arrays(ours), arrays(run(app, make())[0]))


def wide(partition_id, num_partitions, batch_size):
    train, test = load_data(partition_id, num_partitions, batch_size)
    x, y = test.dataset.tensors
    odd = TensorDataset(torch.cat([x, x[:, :1]], 1), y)
    return train, DataLoader(odd, batch_size) if partition_id == 3 else test


def test_samples_that_the_model_does_not_take():
    found = reasons(make_app(data=wide), training(data=wide), rounds=1)
    assert list(found) == ["evaluate"] and "on the samples of a node" in found["evaluate"]


def drawn(weighted, partition_id, num_partitions, batch_size):
    train, test = load_data(partition_id, num_partitions, batch_size)
    n = len(train.dataset)
    sampler = WeightedRandomSampler(torch.arange(1.0, n + 1), n) if weighted else None
    return DataLoader(train.dataset, batch_size, shuffle=not weighted, sampler=sampler), test


def test_another_sampler():
    """Neither order is fixed; but one draws every sample once in an epoch."""
    app, declared = make_app(data=partial(drawn, True)), training(data=partial(drawn, False))
    assert "more or less often" in reasons(app, declared, rounds=1)["train"]


def test_workers_that_persist_draw_once():
    def data(partition_id, num_partitions, batch_size):
        train, test = load_data(partition_id, num_partitions, batch_size)
        own = torch.Generator().manual_seed(1)
        options = {"generator": own, "num_workers": 1, "persistent_workers": True}
        return DataLoader(train.dataset, batch_size, shuffle=True, **options), test

    assert reasons(make_app(data=data), training(data=data), rounds=1) == {}


def test_messages_to_nodes_that_there_are_not():
    def use(grid, context):
        message = Message(RecordDict({"arrays": initial(), "config": ConfigRecord()}), 7, "train")
        (reply,) = grid.send_and_receive([message])
        found.append(reply.error.code)

    found, server = [], ServerApp()
    server.main()(use)
    run_simulation(server, make_app(), 2, training=training())
    assert found == [ErrorCode.NODE_UNAVAILABLE]
