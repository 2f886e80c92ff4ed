"""What `FastGrid` is made of: batches, arrays, replies, errors, settings, evaluation, an app."""

import pytest

pytest.importorskip("flwr")

import copy
import pickle
import random
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import tomllib
import torch
from flower_app import Net, close, initial, load_data, make_app, run, training
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.server.utils.validator import validate_message
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, RandomSampler, TensorDataset, WeightedRandomSampler

from fedfast.integrations.flower import FastGrid, Training, declare, run_simulation
from fedfast.integrations.flower.arrays import RowArray, Rows
from fedfast.integrations.flower.loaders import Samples, seeded
from fedfast.integrations.flower.samples import unpack
from fedfast.integrations.flower.states import States

ROOT = Path(__file__).parents[1]
APP = ROOT / "examples" / "flower_digits"


def loader_of(kind, n, batch, drop, own):
    """A DataLoader over 0..n-1 whose batches are drawn in one of torch's ways."""
    samples = TensorDataset(torch.arange(n), torch.arange(n))
    generator = torch.Generator().manual_seed(5) if own else None
    if kind == "weighted":
        sampler = WeightedRandomSampler(torch.ones(n), n, generator=generator)
        return DataLoader(samples, batch, sampler=sampler, drop_last=drop)
    if kind == "batch sampler":
        some = torch.utils.data.BatchSampler(
            RandomSampler(samples, generator=generator), batch, drop
        )
        return DataLoader(samples, batch_sampler=some)
    shuffle = kind == "shuffled"
    return DataLoader(samples, batch, shuffle=shuffle, drop_last=drop, generator=generator)


@given(
    kind=st.sampled_from(["in order", "shuffled", "weighted", "batch sampler"]),
    n=st.integers(1, 23),
    batch=st.integers(1, 7),
    drop=st.booleans(),
    own=st.booleans(),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
def test_batches_are_those_of_the_data_loader(kind, n, batch, drop, own, epochs, seed):
    """The DataLoader made anew and iterated under the same seed; each round begins alike."""
    samples = Samples(loader_of(kind, n, batch, drop, own), unpack)
    with seeded(seed):
        fresh = loader_of(kind, n, batch, drop, own)
        expected = [y.tolist() for _ in range(epochs) for _, y in fresh]
    for _ in range(2):
        assert samples.batches(epochs, seed) == expected


def test_torchs_random_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(9):
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)


def test_row_arrays_are_arrays():
    """Bytes, copies, pickles, object ids and changes of `data` as with Flower's own."""
    values = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)
    rows = Rows({"w": values})
    lazy, plain = RowArray(rows, "w", 1, "float32"), Array(values[1].copy())
    buffer = BytesIO()
    np.save(buffer, values[1])
    assert lazy.data == plain.data == buffer.getvalue()
    assert lazy == plain and plain == lazy and lazy.object_id == plain.object_id
    for copied in (pickle.loads(pickle.dumps(lazy)), copy.deepcopy(lazy)):
        assert copied.numpy().tolist() == values[1].tolist()
    private = lazy.numpy()
    private += 1
    assert lazy.numpy().tolist() == values[1].tolist()
    assert ArrayRecord({"w": lazy})["w"].numpy().tolist() == values[1].tolist()
    lazy.data = Array(np.zeros(3)).data
    assert lazy.numpy().tolist() == [0, 0, 0]


class Keeping(FedAvg):
    """Keeps all replies of all rounds, and what their arrays were."""

    def __init__(self):
        super().__init__(fraction_evaluate=0.0)
        self.kept = []

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        for reply in replies:
            assert validate_message(reply, is_reply_message=True) == []
            record = reply.content["arrays"]
            self.kept.append((record, {k: a.numpy() for k, a in record.items()}))
        return super().aggregate_train(server_round, replies)


def test_replies_outlive_rounds():
    strategy = Keeping()
    run(make_app(), strategy, training(), rounds=5)
    assert len(strategy.kept) == 40
    for record, before in strategy.kept:
        assert all(np.array_equal(record[name].numpy(), value) for name, value in before.items())
    first, last = strategy.kept[0][1], strategy.kept[-1][1]
    assert not np.array_equal(first["first.weight"], last["first.weight"])


def on_grid(app, declared, use, nodes=4):
    """What `use(grid)` returns in a ServerApp's main."""
    found, server = [], ServerApp()
    server.main()(lambda grid, context: found.append(use(grid)))
    config = {"batch-size": 5, "local-epochs": 1}
    run_simulation(server, app, nodes, training=declared, run_config=config)
    return found[0]


def messages(grid, kind, content=None):
    """One for each node."""
    record = content or RecordDict({"arrays": initial(), "config": ConfigRecord({"lr": 0.1})})
    return [Message(record, node, kind, group_id="g7") for node in grid.get_node_ids()]


def failing(partition_id, num_partitions, batch_size):
    if partition_id == 2:
        raise OSError("no such file")
    return load_data(partition_id, num_partitions, batch_size)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_one_nodes_error_is_its_own(kind):
    """Error replies as the app's own function gives them; replies keep ids, groups and nodes."""

    def both(grid):
        sent = messages(grid, kind)
        return (
            sent,
            list(grid.send_and_receive(sent)),
            grid.grid.send_and_receive(messages(grid, kind)),
        )

    sent, ours, theirs = on_grid(make_app(data=failing), training(data=failing), both)
    assert (
        [r.has_error() for r in ours]
        == [r.has_error() for r in theirs]
        == [False, False, True, False]
    )
    assert (ours[2].error.code, ours[2].error.reason) == (
        theirs[2].error.code,
        theirs[2].error.reason,
    )
    for message, reply in zip(sent, ours, strict=True):
        assert reply.metadata.reply_to_message_id == message.metadata.message_id
        assert reply.metadata.src_node_id == message.metadata.dst_node_id
        assert (reply.metadata.group_id, reply.metadata.message_type) == ("g7", kind)
        assert validate_message(reply, is_reply_message=True) == []


def test_messages_may_be_pushed_and_pulled():
    def use(grid):
        ids = list(grid.push_messages(messages(grid, "train")))
        first = list(grid.pull_messages(ids[:2]))
        return ids, first, list(grid.pull_messages(ids))

    ids, first, rest = on_grid(make_app(), training(), use)
    assert [r.metadata.reply_to_message_id for r in first] == ids[:2]
    assert [r.metadata.reply_to_message_id for r in rest] == ids[2:]


def test_other_messages_go_to_the_nodes():
    app = make_app()

    @app.query()
    def query(message, context):
        record = MetricRecord({"partition": context.node_config["partition-id"]})
        return Message(RecordDict({"own": record}), reply_to=message)

    def use(grid):
        replies = list(grid.send_and_receive(messages(grid, "query") + messages(grid, "train")))
        found = [r.content["own"]["partition"] for r in replies if "own" in r.content]
        return found, len(replies), grid.reasons

    assert on_grid(app, training(), use) == ([0, 1, 2, 3], 8, {})


def alike(partition_id, num_partitions, batch_size):
    """Validation sets of 5 (one batch) on node 0, of 7 (5 and 2) on the others."""
    train, test = load_data(partition_id, num_partitions, batch_size)
    n = 5 if partition_id == 0 else 7
    return train, DataLoader(TensorDataset(*test.dataset[:n]), batch_size=batch_size)


def test_a_metric_that_one_node_leaves_open_is_decided_by_another():
    """On node 0 the mean over batches is the mean over samples; the app means the former."""

    def both(grid):
        ours = grid.send_and_receive(messages(grid, "evaluate"))
        return list(ours), grid.grid.send_and_receive(messages(grid, "evaluate")), grid.reasons

    ours, theirs, reasons = on_grid(make_app(data=alike), training(data=alike), both)
    assert reasons == {}
    for mine, own in zip(ours, theirs, strict=True):
        assert dict(mine.content["metrics"]) == pytest.approx(
            dict(own.content["metrics"]), rel=1e-5
        )


def confidence(out, y):
    """Mean probability of the right class."""
    return float(out.softmax(1)[range(len(y)), y].mean())


def test_metrics_of_ones_own():
    app = make_app(scores=lambda out, y: {"confidence": confidence(out, y)})
    theirs, _ = run(app, FedAvg())
    ours, grid = run(app, FedAvg(), training(metrics={"confidence": confidence}))
    assert grid.reasons == {}
    for t, record in theirs.evaluate_metrics_clientapp.items():
        assert dict(ours.evaluate_metrics_clientapp[t]) == pytest.approx(dict(record), rel=1e-5)
    with pytest.warns(UserWarning, match="evaluate messages .* the metric 'confidence'"):
        _, grid = run(app, FedAvg(), training())
    assert list(grid.reasons) == ["evaluate"]


def test_samples_beyond_the_cache_are_read_anew():
    reads = []

    def data(partition_id, num_partitions, batch_size):
        reads.append(partition_id)
        return load_data(partition_id, num_partitions, batch_size)

    theirs, _ = run(make_app(), FedAvg(fraction_evaluate=0.0))
    ours, grid = run(make_app(), FedAvg(fraction_evaluate=0.0), training(data=data, cache_bytes=1))
    assert grid.reasons == {} and len(reads) > 2 * 8
    assert close(
        {k: a.numpy() for k, a in ours.arrays.items()},
        {k: a.numpy() for k, a in theirs.arrays.items()},
    )


def test_arrays_without_names():
    """Apps that send lists of ndarrays: arrays by position."""
    record = ArrayRecord([array.numpy() for array in initial().values()])
    found = States(Net()).of(record)
    assert all(np.array_equal(found[k].numpy(), a.numpy()) for k, a in initial().items())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Training(model=3, data=load_data), "model: expected a module or what makes one"),
        (lambda: Training(model=Net, data=3), "data: expected a function; got 3"),
        (lambda: declare("app", model=Net, data=load_data), "app: expected a ClientApp"),
        (lambda: run_simulation("server", make_app(), 2), "server_app: expected a ServerApp"),
        (lambda: run_simulation(ServerApp(), make_app(), 0), "num_supernodes: expected at least 1"),
        (lambda: FastGrid("grid", make_app(), None), "grid: expected a Grid; got 'grid'"),
    ],
)
def test_mistakes_name_their_argument(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_the_example_app_as_it_lies_there(monkeypatch):
    """Run config from its pyproject.toml, overridden; the app's own FastGrid under ours."""
    monkeypatch.syspath_prepend(str(APP))
    from flower_digits import client_app, server_app

    found = []
    start = FedAvg.start

    def recorded(self, grid, *args, **kwargs):
        found.append((grid, start(self, grid, *args, **kwargs)))
        return found[-1][1]

    monkeypatch.setattr(FedAvg, "start", recorded)
    random.seed(0)
    torch.manual_seed(0)
    config = {"num-server-rounds": 12}
    run_simulation(server_app.app, client_app.app, 6, app_dir=APP, run_config=config)
    grid, result = found[0]
    assert grid.reasons == {}
    assert len(result.train_metrics_clientapp) == 12
    assert result.evaluate_metrics_clientapp[12]["eval_acc"] > 0.8
    for name in [name for name in sys.modules if name.startswith("flower_digits")]:
        del sys.modules[name]


def test_the_documents_lines_are_the_examples():
    """docs/flower.md changes at most 5 lines, which the example app has too."""
    page = (ROOT / "docs" / "flower.md").read_text()
    changed = [
        line[1:].strip() for line in page.split("Without Ray")[0].split("\n") if line[:1] == "+"
    ]
    assert 0 < len(changed) <= 5
    app = "".join(path.read_text() for path in (APP / "flower_digits").glob("*.py"))
    for line in changed:
        if "pytorchexample" not in line and "declare(" not in line:
            assert line in app
    assert tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
