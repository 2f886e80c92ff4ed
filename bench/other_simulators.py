"""W2 and W3 by other simulators, each in an interpreter of its own that needs no fedfast.

    python -m venv /tmp/flower && /tmp/flower/bin/pip install "flwr[simulation]==1.41.0" torch
    /tmp/flower/bin/python bench/other_simulators.py flower

    python3.11 -m venv /tmp/fedjax
    /tmp/fedjax/bin/pip install fedjax==0.0.17 "jax<0.6" "jaxlib<0.6"
    /tmp/fedjax/bin/python bench/other_simulators.py fedjax

Prints median seconds per round after one that warms up, evaluation off, as bench_round.py prints
fedfast's. They draw cohorts and batches themselves, of the same numbers and sizes. Flower runs one
client per core at once, on one thread, the client's training loop being `TunedLoop`'s. FedJAX runs
the cohort in one process (its `for_each_client` backend for one device), compiled by XLA.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass

import numpy as np

INPUTS, HIDDEN, CLASSES, LR = 784, 200, 10, 0.01


@dataclass(frozen=True)
class Federation:
    """The numbers of one workload of workloads.py."""

    name: str
    clients: int
    samples: int
    cohort: int
    batch: int
    rounds: int


FEDERATIONS = (Federation("W2", 100, 500, 10, 50, 9), Federation("W3", 1000, 50, 100, 10, 9))


def samples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All clients' synthetic samples: x [n, 784] float32, y [n] int64."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((n, INPUTS), dtype=np.float32)
    return x, generator.integers(CLASSES, size=n)


def own(federation: Federation, client: int) -> slice:
    """One client's rows of the samples."""
    return slice(client * federation.samples, (client + 1) * federation.samples)


def flower(federation: Federation) -> list[float]:
    """Seconds of each round under Flower's simulation on Ray."""
    # Actors map these files: what a client needs is in the page cache, as a data set in memory.
    with tempfile.TemporaryDirectory(prefix="simulators_") as folder:
        for name, part in zip("xy", samples(federation.clients * federation.samples), strict=True):
            np.save(f"{folder}/{name}.npy", part)
        return flower_rounds(federation, folder)


def flower_rounds(federation: Federation, folder: str) -> list[float]:
    """The same, on the samples in x.npy and y.npy of `folder`."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    from flwr.app import ArrayRecord, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    ends = []

    class Timed(FedAvg):
        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            if any(reply.has_error() for reply in replies):
                raise RuntimeError("a client failed: its round's time means nothing")
            result = super().aggregate_train(server_round, replies)
            ends.append(time.perf_counter())
            return result

    def serve(grid, context):
        strategy = Timed(
            fraction_train=federation.cohort / federation.clients,
            fraction_evaluate=0.0,
            min_train_nodes=federation.cohort,
            min_available_nodes=federation.clients,
        )
        initial = ArrayRecord(torch_model().state_dict())
        strategy.start(grid=grid, initial_arrays=initial, num_rounds=federation.rounds + 1)

    server, client = ServerApp(), ClientApp()
    server.main()(serve)

    @client.train()
    def train(message, context):
        from flwr.app import Message

        model = torch_model()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        rows = own(federation, int(context.node_config["partition-id"]))
        x, y = (np.array(np.load(f"{folder}/{n}.npy", mmap_mode="r")[rows]) for n in "xy")
        torch_epoch(model, x, y, federation.batch)
        content = RecordDict(
            {
                "arrays": ArrayRecord(model.state_dict()),
                "metrics": MetricRecord({"num-examples": federation.samples}),
            }
        )
        return Message(content=content, reply_to=message)

    run_simulation(
        server_app=server,
        client_app=client,
        num_supernodes=federation.clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    return np.diff(ends).tolist()


def torch_model():
    """The MLP 784-200-10."""
    from torch import nn

    return nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))


def torch_epoch(model, x: np.ndarray, y: np.ndarray, batch: int) -> None:
    """One epoch of SGD on one thread."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    parameters = list(model.parameters())
    for rows in torch.randperm(len(y)).split(batch):
        g = torch.autograd.grad(F.cross_entropy(model(x[rows]), y[rows]), parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, g, alpha=-LR)


def fedjax(federation: Federation) -> list[float]:
    """Seconds of each round of fedjax.algorithms.fed_avg."""
    import fedjax as fj
    import jax
    import jax.numpy as jnp

    def init(rng):
        first, second = jax.random.split(rng)
        return {
            "w1": jax.random.normal(first, (INPUTS, HIDDEN)) * 0.02,
            "b1": jnp.zeros(HIDDEN),
            "w2": jax.random.normal(second, (HIDDEN, CLASSES)) * 0.05,
            "b2": jnp.zeros(CLASSES),
        }

    def loss(params, batch, rng):
        hidden = jax.nn.relu(batch["x"] @ params["w1"] + params["b1"])
        logits = hidden @ params["w2"] + params["b2"]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["y"][:, None], axis=1)
        return -jnp.mean(chosen)

    x, y = samples(federation.clients * federation.samples)

    def client_data(client):
        rows = own(federation, client)
        return {"x": x[rows], "y": y[rows].astype(np.int32)}

    data = fj.InMemoryFederatedData({str(i): client_data(i) for i in range(federation.clients)})
    algorithm = fj.algorithms.fed_avg.federated_averaging(
        grad_fn=jax.grad(loss),
        client_optimizer=fj.optimizers.sgd(LR),
        server_optimizer=fj.optimizers.sgd(1.0),
        client_batch_hparams=fj.ShuffleRepeatBatchHParams(
            batch_size=federation.batch, num_epochs=1, drop_remainder=False
        ),
    )
    sampler = fj.client_samplers.UniformGetClientSampler(data, federation.cohort, seed=0)
    state, seconds = algorithm.init(init(jax.random.PRNGKey(0))), []
    for _ in range(federation.rounds + 1):
        clients = sampler.sample()
        begin = time.perf_counter()
        state, _ = algorithm.apply(state, clients)
        jax.block_until_ready(state.params)
        seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def main() -> None:
    """Run one of them on both workloads."""
    simulators = {"flower": flower, "fedjax": fedjax}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("simulator", choices=simulators)
    name = parser.parse_args().simulator
    for federation in FEDERATIONS:
        seconds = simulators[name](federation)
        p20, p80 = np.percentile(seconds, [20, 80])
        print(
            f"{name} {federation.name}: median {statistics.median(seconds):.4f} s a round "
            f"[{p20:.4f}, {p80:.4f}], {len(seconds)} rounds",
            flush=True,
        )


if __name__ == "__main__":
    main()
