"""Programs of every launch of a round of the workloads, at 5, 10 and 100 clients.

A multiprocessor without a program waits: launches with less than 132 programs need a reason. Where
each program moves at most `MOVED` bytes there is one: they take less than the next launch.

    python tests/launch_programs.py     # the rows of few_programs.csv
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import host_cuda
import sized_cuda
import torch
from occupancy import MULTIPROCESSORS

from fedfast.data import FederatedData, Samples
from fedfast.programs.evaluator import SLICES, WIDTH

sys.path.append(str(Path(__file__).parents[1] / "bench"))

from workloads import BY_NAME  # noqa: E402

CLIENTS = 5, 10, 100
# In 2.5 us, from one small kernel of a graph to the next, a program moves that much at its share
# of 3.35 TB/s, 25 GB/s; a multiprocessor that is alone moves more.
MOVED = 64 * 1024
Plan = Callable[[dict[str, object]], "dict[str, int] | None"]  # of the compiled module
PRODUCTS = {"_correlate", "_weight_gradient"}  # of convolutions: more arithmetic than bytes
REASONS = {
    "depth": "A program sums the whole depth of a layer's product for a tile of up to 64 x 64 "
    "results; parts of it would have to be written, and added by another launch.",
    "pieces": "Products of thin factors are cut into 16 pieces a client; each is B x B numbers to "
    "write and to add.",
    "taps": "A program sums a share of a batch's positions for all taps and some channels; more "
    "parts of the sum are more to write and to add.",
    "planes": "Images of 4 x 4 or 12 x 12 have few positions to make tiles of.",
    "shared": "Weights that all clients still share are packed once, before the first step; the "
    "buffer that is counted has room for all clients'.",
    "sums": "The last sums of partial squares: a program a client.",
    "slices": "Evaluation takes 8 slices of at most 64 samples, however many clients train.",
    "cluster": "A client is a cluster, whose blocks have its weights in shared memory: how many "
    "follows from the model, and all steps are this one launch.",
}
WIDTHS = {"W5": 21}  # samples of a slice of the evaluation, where not `WIDTH`
TABLE = Path(__file__).with_name("few_programs.csv")


class Key(NamedTuple):
    """A launch of a round. shape: of what it belongs to, without the clients."""

    workload: str
    phase: str
    operation: str
    kernel: str
    shape: str


@cache
def seen(name: str, clients: int) -> tuple[sized_cuda.Seen, ...]:
    """What a round of FedSAM launches, of two steps, under the default precision."""
    work = replace(BY_NAME[name], clients=clients, cohort=clients)
    tested = SLICES * WIDTHS.get(name, WIDTH)
    count = max(clients * 2 * work.batch, tested)
    samples = Samples(torch.zeros(count, *work.shape), torch.zeros(count, dtype=torch.long))
    index = torch.arange(clients * 2 * work.batch).reshape(clients, -1)
    data = FederatedData.from_index(samples, index.numpy())
    test = Samples(samples.x[:tested], samples.y[:tested])
    given = work.module(), data, "fedsam", work.batch
    return tuple(sized_cuda.launches(*given, backend="triton", test=test))


def fewest() -> dict[Key, dict[int, int]]:
    """Of launches that may need a reason: the least programs, by clients."""
    found: dict[Key, dict[int, int]] = {}
    for name in BY_NAME:
        for clients in CLIENTS:
            for each in seen(name, clients):
                shape = "x".join(map(str, each.shape))
                key = Key(name, each.phase, each.operation, each.name, shape)
                if is_few(each):
                    least = found.setdefault(key, {})
                    least[clients] = min(each.programs, least.get(clients, each.programs))
    return found


def resident(plan: Plan) -> dict[Key, dict[int, int]]:
    """The same of local steps that are one launch of the resident MLP, for SGD."""
    found = {}
    for name in ("W2", "W3"):
        work = BY_NAME[name]
        first, last = (m for m in work.module().modules() if isinstance(m, torch.nn.Linear))
        sizes = dict(inputs=first.in_features, hidden=last.in_features, classes=last.out_features)
        planned = plan({**sizes, "middle": 0, "width": work.batch, "norms": False, "heavy": False})
        assert planned is not None, name
        programs = {n: n * planned["blocks"] for n in CLIENTS}
        key = Key(name, "step", "resident", "resident", "x".join(map(str, sizes.values())))
        found[key] = {n: count for n, count in programs.items() if count < MULTIPROCESSORS}
    return found


def is_few(each: sized_cuda.Seen) -> bool:
    """Whether multiprocessors wait, and the launch is not bound by launching itself."""
    light = each.bytes <= MOVED * each.programs and each.name not in PRODUCTS
    return each.programs < MULTIPROCESSORS and not light


def table() -> Iterator[tuple[Key, dict[int, int], str]]:
    """The rows of few_programs.csv: (launch, programs by clients, which of the reasons)."""
    with TABLE.open() as file:
        for row in csv.DictReader(file):
            programs = {n: int(row[str(n)]) for n in CLIENTS if row[str(n)]}
            yield Key(*(row[name] for name in Key._fields)), programs, row["reason"]


def written(found: Mapping[Key, Mapping[int, int]]) -> None:
    """Print the table anew; what has had no reason gets "?"."""
    known = {key: reason for key, _, reason in table()} if TABLE.exists() else {}
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([*Key._fields, *CLIENTS, "reason"])
    for key, programs in found.items():
        out.writerow([*key, *(programs.get(n, "") for n in CLIENTS), known.get(key, "?")])


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        written(fewest() | resident(host_cuda.module(Path(folder)).plan))
