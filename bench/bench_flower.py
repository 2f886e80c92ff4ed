"""Rounds of a Flower app: under `FastGrid`, and by Flower's own simulation on Ray, in turns.

    python bench/bench_flower.py                 # W2 and W3, 9 rounds each
    python bench/bench_flower.py --write         # rows of results/flower.csv too

One simulation of Flower's serves both: a round's train messages go to its grid, then to a `FastGrid`
over the same ClientApp, until the strategy (FedAvg) has aggregated the replies. Flower's clients
run twice: with a DataLoader as Flower's quickstart has it ("loader"), which is what `FastGrid`
computes, and with the fastest loop that torch has ("tuned", other_simulators.py).
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time

import numpy as np
from other_simulators import FEDERATIONS, LR, Federation, own, samples, torch_epoch, torch_model

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
TURNS = ("fedfast", "loader", "tuned")


def app_of(federation: Federation, folder: str):
    """(ClientApp, data function) on the samples in x.npy and y.npy of `folder`."""
    import torch
    import torch.nn.functional as F
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from torch.utils.data import DataLoader, TensorDataset

    app = ClientApp()

    def arrays(partition_id):
        rows = own(federation, int(partition_id))
        return [np.array(np.load(f"{folder}/{n}.npy", mmap_mode="r")[rows]) for n in "xy"]

    def data(partition_id):
        parts = TensorDataset(*map(torch.from_numpy, arrays(partition_id)))
        return DataLoader(parts, batch_size=federation.batch, shuffle=True)

    @app.train()
    def train(message, context):
        torch.set_num_threads(1)
        model, partition = torch_model(), context.node_config["partition-id"]
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        if message.content["config"]["turn"] == "tuned":
            torch_epoch(model, *arrays(partition), federation.batch)
        else:
            optimizer = torch.optim.SGD(model.parameters(), lr=LR)
            for x, y in data(partition):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        metrics = MetricRecord({"num-examples": federation.samples})
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}
        return Message(content=RecordDict(content), reply_to=message)

    return app, data


def seconds_of(federation: Federation, rounds: int, folder: str) -> dict[str, list[float]]:
    """Seconds of each round, by turn; the first round of each warms up."""
    from flwr.app import ArrayRecord, ConfigRecord
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    from fedfast.integrations.flower import FastGrid, Training

    server, (app, data) = ServerApp(), app_of(federation, folder)
    seconds: dict[str, list[float]] = {turn: [] for turn in TURNS}

    @server.main()
    def serve(grid, context):
        share, all_of_them = federation.cohort / federation.clients, federation.clients
        strategy = FedAvg(share, 0.0, federation.cohort, 0, all_of_them)
        training = Training(model=torch_model, data=data, lr=LR)
        fast = FastGrid(grid, app, context, training)
        model = ArrayRecord(torch_model().state_dict())
        for t in range(rounds + 1):
            for turn in TURNS:
                nodes = fast if turn == "fedfast" else grid
                config = ConfigRecord({"turn": turn})
                begin = time.perf_counter()
                messages = strategy.configure_train(t, model, config, nodes)
                replies = list(nodes.send_and_receive(messages))
                model, _ = strategy.aggregate_train(t, replies)
                seconds[turn].append(time.perf_counter() - begin)
                if any(reply.has_error() for reply in replies) or fast.reasons:
                    raise RuntimeError(f"{turn}: {fast.reasons}: a round's time means nothing")

    resources = {"num_cpus": 1, "num_gpus": 0.0}
    run_simulation(
        server, app, federation.clients, backend_config={"client_resources": resources}
    )
    return {turn: found[1:] for turn, found in seconds.items()}


def main(argv: list[str] | None = None) -> None:
    """Print medians and ratios of both workloads."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="add rows to results/flower.csv")
    arguments = parser.parse_args(argv)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    for federation in FEDERATIONS:
        with tempfile.TemporaryDirectory(prefix="bench_flower_") as folder:
            parts = samples(federation.clients * federation.samples)
            for name, part in zip("xy", parts, strict=True):
                np.save(f"{folder}/{name}.npy", part)
            seconds = seconds_of(federation, arguments.rounds, folder)
        report(federation, seconds, arguments.write)


def report(federation: Federation, seconds: dict[str, list[float]], write: bool) -> None:
    """One line per turn."""
    fast = statistics.median(seconds["fedfast"])
    for turn, found in seconds.items():
        p20, median, p80 = np.percentile(found, [20, 50, 80])
        print(
            f"{federation.name} {turn:8s} {median * 1e3:9.1f} ms a round "
            f"[{p20 * 1e3:.1f}, {p80 * 1e3:.1f}], {median / fast:6.1f} times fedfast's",
            flush=True,
        )
        if write:
            from result_files import append

            append(
                "flower.csv",
                {
                    "workload": federation.name,
                    "turn": turn,
                    "median_ms": round(median * 1e3, 3),
                    "p20_ms": round(p20 * 1e3, 3),
                    "p80_ms": round(p80 * 1e3, 3),
                    "rounds": len(found),
                },
            )


if __name__ == "__main__":
    main()
