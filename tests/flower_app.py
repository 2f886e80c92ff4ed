"""A ClientApp as Flower's quickstart has it, with knobs for what tests vary, and its runs."""

from __future__ import annotations

import logging
import random
import warnings
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages that flwr imports
    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

from fedfast.integrations.flower import Training, run_simulation

CONFIG = {"batch-size": 5, "local-epochs": 2}
NODES = 8
HEAVY_BALL = partial(torch.optim.SGD, momentum=0.9)
logging.getLogger("flwr").setLevel(logging.ERROR)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.last(F.relu(self.first(x)))


def load_data(partition_id, num_partitions, batch_size):
    """Partitions of unequal sizes, in batches that a generator fixes; the last one is smaller."""
    g, n = torch.Generator().manual_seed(partition_id), 20 + partition_id
    x, y = torch.randn(n, 8, generator=g), torch.randint(3, (n,), generator=g)
    train, test = TensorDataset(x[7:], y[7:]), TensorDataset(x[:7], y[:7])
    order = torch.Generator().manual_seed(partition_id)
    loader = DataLoader(train, batch_size=batch_size, shuffle=True, generator=order)
    return loader, DataLoader(test, batch_size=batch_size)


def settings(message, context):
    """(lr, epochs, mu) of a message, from its config or the run config."""
    config = {**context.run_config, **message.content["config"]}
    return config["lr"], config["local-epochs"], config.get("proximal-mu", 0.0)


def descend(made, loss_of):
    """One step of a torch optimizer; returns the loss."""
    made.zero_grad()
    loss, prox = loss_of()
    (loss + prox).backward()
    made.step()
    return loss.item()


def make_app(
    net=Net,
    data=load_data,
    optimizer=HEAVY_BALL,
    extra=lambda model, context: {},
    before=lambda model, batch: batch,
    step=descend,
    scores=lambda out, y: {},
):
    """An app that trains `net` on `data`.

    extra   metrics of a train reply beside loss and number of samples
    before  what is done to a batch before it is used
    step    (optimizer, function -> (loss, proximal term)) -> loss
    scores  metrics of an evaluate reply, of all outputs
    """
    app = ClientApp()

    def opened(message, context):
        model = net()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        config, node = {**context.run_config, **message.content["config"]}, context.node_config
        return model, data(node["partition-id"], node["num-partitions"], config["batch-size"])

    @app.train()
    def train(message, context):
        model, (loader, _) = opened(message, context)
        lr, epochs, mu = settings(message, context)
        made, total = optimizer(model.parameters(), lr=lr), 0.0
        start = [p.detach().clone() for p in model.parameters()]
        for _ in range(epochs):
            for batch in loader:
                x, y = before(model, batch)

                def loss_of(x=x, y=y):
                    pairs = zip(model.parameters(), start, strict=True)
                    prox = sum((p - s).square().sum() for p, s in pairs)
                    return F.cross_entropy(model(x), y), mu / 2 * prox

                total += step(made, loss_of)
        metrics = {
            "train_loss": total / (epochs * len(loader)),
            "num-examples": len(loader.dataset),
        }
        metrics |= extra(model, context)
        records = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)}
        return Message(content=RecordDict(records), reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        model, (_, loader) = opened(message, context)
        model.eval()
        loss, right, outputs = 0.0, 0, []
        with torch.no_grad():
            for x, y in loader:
                out = model(x)
                outputs.append((out, y))
                loss += F.cross_entropy(out, y).item()
                right += (out.argmax(1) == y).sum().item()
        n = len(loader.dataset)
        metrics = {"eval_loss": loss / len(loader), "eval_acc": right / n, "num-examples": n}
        metrics |= scores(*map(torch.cat, zip(*outputs, strict=True)))
        return Message(content=RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)

    return app


def training(**fields):
    """What `make_app()` does."""
    own = {"model": Net, "data": load_data, "optimizer": HEAVY_BALL}
    return Training(**{**own, "proximal_mu": "proximal-mu", **fields})


def initial(net=Net):
    """The first global model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ArrayRecord(net().state_dict())


def run(app, strategy, declared=None, net=Net, nodes=NODES, rounds=3, **config):
    """(result, grid) of a strategy; without a declaration: by the app's functions alone."""
    found, server = [], ServerApp()

    @server.main()
    def main(grid, context):
        grid = grid.grid if declared is None else grid
        random.seed(0)
        start = ConfigRecord({"lr": 0.05})
        found[:] = strategy.start(grid, initial(net), rounds, train_config=start), grid

    config = {**CONFIG, **config}
    run_simulation(server, app, nodes, training=declared or training(), run_config=config)
    return tuple(found)


def arrays(result):
    """The final model."""
    return {name: array.numpy() for name, array in result.arrays.items()}


def close(ours, theirs, tolerance=1e-5):
    """Whether two models are equal up to `tolerance` of each array's largest number."""
    return all(
        np.abs(ours[name] - value).max() <= tolerance * np.abs(value).max()
        for name, value in theirs.items()
    )
