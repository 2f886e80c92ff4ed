"""Flower's own simulation on Ray beside `FastGrid` over the same grid; prints JSON.

In a process of its own: Ray's threads and warnings are nobody else's.
"""

import json
import random
import sys

from flower_app import CONFIG, initial, make_app, training
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import ServerApp, strategy
from flwr.simulation import run_simulation

from fedfast.integrations.flower import FastGrid

STRATEGIES = {
    "FedAvg": strategy.FedAvg,
    "FedProx": lambda: strategy.FedProx(proximal_mu=0.5),
    "FedAdam": lambda: strategy.FedAdam(eta=0.01),
    "FedTrimmedAvg": strategy.FedTrimmedAvg,
    "Krum": lambda: strategy.Krum(num_malicious_nodes=1),
}
app, server, found = make_app(), ServerApp(), {}


@app.query()
def where(message, context):
    """Which partition a node has: only the simulation knows."""
    record = MetricRecord({"partition": context.node_config["partition-id"]})
    return Message(RecordDict({"where": record}), reply_to=message)


def trained(make, grid):
    """(final arrays, train and evaluate metrics of the last round)."""
    random.seed(0)
    start = ConfigRecord({"lr": 0.05, **CONFIG})
    # Flower's Python API gives nodes an empty run config: settings come with messages.
    result = make().start(grid, initial(), 2, train_config=start, evaluate_config=start)
    arrays = {name: array.numpy().ravel().tolist() for name, array in result.arrays.items()}
    metrics = {**result.train_metrics_clientapp[2], **result.evaluate_metrics_clientapp[2]}
    return arrays, metrics


@server.main()
def main(grid, context):
    fast = FastGrid(grid, app, context, training())
    nodes = list(fast.get_node_ids())
    asked = [Message(RecordDict(), node, "query") for node in nodes]
    replies = fast.send_and_receive(asked)
    found["partitions"] = [
        [fast.partitions[r.metadata.src_node_id], r.content["where"]["partition"]] for r in replies
    ]
    for name, make in STRATEGIES.items():
        found[name] = {"flower": trained(make, grid), "fedfast": trained(make, fast)}
    found["reasons"] = fast.reasons


if __name__ == "__main__":
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server, app, 5, backend_config=resources)
    json.dump(found, sys.stdout)
