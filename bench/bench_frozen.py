"""Rounds of a model that is frozen but for products of low rank: `python bench/bench_frozen.py`.

Three contestants, one thread, in turns; the least thread time of each counts, so that other
processes matter little. "program" is what `Simulation` makes of the model; "module" the module
executor, which trained models with frozen parameters before programs took them; "all trained" the
same model with nothing frozen, as a program. --write appends rows to bench/results/frozen.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from alternate import Usage, alternate
from result_files import append, stamp
from torch import Tensor, nn

import fedfast

HIDDEN, RANK, CLIENTS, SAMPLES, ROUNDS = 2048, 5, 8, 128, 4
CONTESTANTS = ("program", "module", "all trained")


class Low(nn.Module):
    """A dense layer and a product of low rank beside it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.down, self.up = nn.Linear(inputs, RANK, bias=False), nn.Linear(RANK, outputs, False)

    def forward(self, x: Tensor) -> Tensor:
        """Their sum."""
        return self.base(x) + self.up(self.down(x)) * 2


def model(frozen: bool) -> nn.Module:
    """784-2048-2048-10, 23 MB of float32; trained are 0.18 MB of them, or all."""
    torch.manual_seed(0)
    sizes = (784, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 10)
    layers = [layer for size in sizes for layer in (Low(*size), nn.ReLU())][:-1]
    for layer in layers[::2]:
        layer.get_submodule("base").requires_grad_(not frozen)
    return nn.Sequential(nn.Flatten(), *layers)


def simulation(kind: str, algorithm: str, batch: int) -> fedfast.Simulation:
    """One of CONTESTANTS."""
    torch.manual_seed(1)
    xs, ys = torch.rand(CLIENTS, SAMPLES, 1, 28, 28), torch.randint(10, (CLIENTS, SAMPLES))
    data = fedfast.FederatedData.from_arrays(list(xs), list(ys))
    loss: str | Callable[[Tensor, Tensor], Tensor] = "cross_entropy"
    if kind == "module":
        loss = lambda z, y: F.cross_entropy(z, y)  # noqa: E731 - a callable takes the module
    run = dict(rounds=ROUNDS + 1, participation=1.0, local_epochs=1, batch_size=batch, lr=1e-3)
    frozen = kind != "all trained"
    return fedfast.Simulation(model(frozen), data, algorithm, loss=loss, threads=1, **run)


def compare(algorithm: str, batch: int) -> list[dict[str, object]]:
    """A row for each contestant."""
    sims = {kind: simulation(kind, algorithm, batch) for kind in CONTESTANTS}
    before = Usage.now()
    rounds = {kind: partial(next, iter(sim)) for kind, sim in sims.items()}
    spent = {kind: min(times) for kind, times in alternate(rounds, ROUNDS).items()}
    elsewhere = round(Usage.now().elsewhere(before), 3)
    return [
        {
            "algorithm": algorithm,
            "batch": batch,
            "contestant": kind,
            "mb_trained": round(4e-6 * sim.layout.parameters, 3),
            "mb_client_rows": round(4e-6 * sim.layout.stride, 3),
            "mb_client": round(1e-6 * sim.memory.each, 2),
            "mb_sent": round(1e-6 * sum(sim.traffic) / 2, 3),
            "samples_per_s": round(CLIENTS * SAMPLES / spent[kind]),
            "ratio_module": round(spent["module"] / spent[kind], 2),
            "elsewhere": elsewhere,
        }
        for kind, sim in sims.items()
    ]


def main() -> None:
    """FedAvg and FedSAM, batches small and large."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="append rows to frozen.csv")
    write = parser.parse_args().write
    torch.set_num_threads(1)
    for algorithm in ("fedavg", "fedsam"):
        for batch in (10, 32):
            for row in compare(algorithm, batch):
                print(row, flush=True)
                if write:
                    append("frozen", stamp(1) | row)


if __name__ == "__main__":
    main()
