"""Runs of every algorithm on tiny data, by as many ranks as the environment says; see
`test_ranks.py`. `python rank_runs.py FOLDER`: rank 0 saves what it found there."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedfast import Simulation, algorithms
from fedfast.data import FederatedData
from fedfast.models import Stochastic

ROUNDS, CLIENTS = 3, 14
NAMES = sorted(algorithms.names())


def federation() -> FederatedData:
    """14 clients of unlike sizes, three classes, with test parts of their own."""
    draw = np.random.default_rng(5)
    sizes = [3 + (7 * i) % 11 for i in range(CLIENTS)]
    xs = [draw.normal(size=(n, 6)).astype(np.float32) for n in sizes]
    ys = [draw.integers(0, 3, n) for n in sizes]
    tests = [(x[:2] + 0.1, y[:2]) for x, y in zip(xs, ys, strict=True)]
    return FederatedData.from_arrays(xs, ys, test=tests)


def model(name: str) -> nn.Module:
    """A head of one layer, as some algorithms need it; FedCR's with noise inside."""
    torch.manual_seed(1)
    if name == "fedcr":
        return Stochastic(nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Linear(4, 3))
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def simulation(name: str, ranks: str | None, **more: Any) -> Simulation:
    """Three rounds of 9 clients, two at a time."""
    given = dict(rounds=ROUNDS, participation=0.65, batch_size=4, lr=0.1, seed=3, chunk=2)
    given |= dict(eval_every=1, local_epochs=2, threads=1, client_metrics=True, ranks=ranks)
    if name == "fedsgd":
        given |= dict(batch_size=None, local_epochs=1)
    draw = torch.Generator().manual_seed(0)
    test = torch.randn(20, 6, generator=draw), torch.randint(3, (20,), generator=draw)
    return Simulation(model(name), federation(), algorithm=name, test=test, **given | more)


def outcome(sim: Simulation) -> dict[str, Any]:
    """What a run leaves: rows of the history but for times, the model, what every client keeps."""
    rows = [{k: v for k, v in vars(row).items() if "second" not in k} for row in sim.history.rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        sim.save(path)
        state = None
        if path.is_file():
            from fedfast.checkpoint import container

            manifest, tensors = container.read(path, None)
            tensors.pop("history")
            state = manifest["scalars"], tensors
    scores = None if sim._engine.committed.scores is None else sim._engine.committed.scores
    return dict(rows=rows, state=state, scores=scores)


def main(folder: Path) -> None:
    """Every algorithm; then one that keeps models for its clients, resumed."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    found = {}
    for name in NAMES:
        sim = simulation(name, "all")
        sim.run(progress=False)
        found[name] = outcome(sim)
        try:
            found[name]["personal"] = sim.client_state_dict(5)
        except ValueError:
            found[name]["personal"] = None
    if dist.get_rank() == 0:
        torch.save(found, folder / f"found{os.environ['WORLD_SIZE']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
