"""Short runs and the digests of what they end in; `digests.json` keeps those of the code as it was.

    python tests/digests.py --write

writes the file anew, from the code beside it. That is permitted only where the mathematics of an
algorithm, a layer or a draw changes on purpose, and the commit that does it says so. A run may be
added at any time, provided that no other digest changes. What merely moves code leaves it alone.

A digest is of the bytes of every floating tensor of the final model, of personal models where
there are some, and of the history's numbers as they are written to CSV. Convolutions
add up in another order under another instruction set, so the file has a part for each. What torch
and MKL compute beside them depends on the processor too, unless they are told not to make use of
it: runs are made in a process that does.

Square roots are correctly rounded since `fedfast.square_root`: until then MKL computed some, whose
last bit differs between makers of processors, and five digests could be had on one kind alone.

Written anew when sums over a cohort became those of a fixed tree, corrections joined the folded
step, and dense products of 17 to 64 rows took another order: 42 of 70 digests of AVX2 changed and
40 of AVX-512; the same runs in float64 ended within 5e-15 of the ones before (relative norm).
Again when dense products under AVX2 took the order of AVX-512: 65 of 71 digests of AVX2 changed,
and are those of AVX-512 but for convolutions.
Again when float32 convolutions with longer windows went through Fourier transforms: the digests of
W1, W1b, W1c and W4, none of float64.

Written with torch 2.13.0, NumPy 2.4.6 and glibc 2.36, whose exponential and logarithm enter float64
runs. Inputs are made of random whole numbers, which are the same everywhere; weights are torch's
own initialisation from a seed. Runs through autograd ("generic") follow torch's version and are
compared under that one alone.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from layer_cases import ISAS, isa
from torch import Tensor, nn

import fedfast
from fedfast import _fedfast

FILE = Path(__file__).with_name("digests.json")
QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart.yaml"
PARTS = ("avx2", "avx512")
# Torch's loops and MKL's products without the instructions that only some processors have.
PLAIN = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
DIGITS = 32  # of a digest, hexadecimal

# Named one by one, so that a column that is added changes no digest; none of the clock's.
COLUMNS = (
    *("round", "accuracy", "loss", "train_loss", "lr", "clients", "samples", "update_norm"),
    *("status", "bytes_down", "bytes_up", "personal_accuracy", "personal_pooled"),
    *("local_accuracy", "pooled_accuracy", "update_norm_sum", "scalars"),
)

Run = Callable[[], fedfast.Simulation]  # before round 1


def digest(sim: fedfast.Simulation) -> str:
    """Of the global model, the personal ones and the history. A zero's sign counts as well."""
    sha = sha256()
    for model in models(sim):
        for name, tensor in sorted(model.items()):
            if tensor.is_floating_point():
                sha.update(name.encode())
                sha.update(tensor.contiguous().numpy().tobytes())
    for row in csv.DictReader(io.StringIO(sim.history.csv())):
        sha.update(repr([row[column] for column in COLUMNS]).encode())
    return sha.hexdigest()[:DIGITS]


def models(sim: fedfast.Simulation) -> Iterator[Mapping[str, Tensor]]:
    """The global model; those of six clients where the algorithm keeps personal models."""
    yield sim.state_dict()
    with suppress(ValueError):  # which says that it keeps none
        for client in range(6):
            yield sim.client_state_dict(client)


def samples(n: int, shape: Sequence[int], classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs in [-1, 1) that are multiples of 1/128, and labels that they do not explain."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (n, *shape), generator=generator) / 128 - 1
    return x, torch.randint(classes, (n,), generator=generator)


@dataclass(frozen=True)
class Task:
    """A model, clients with so many samples each, and the settings of a run."""

    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int
    sizes: Sequence[int]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, algorithm: str, **changed: Any) -> fedfast.Simulation:
        """Before round 1."""
        drawn = [samples(n, self.shape, self.classes, seed=n + i) for i, n in enumerate(self.sizes)]
        clients = fedfast.FederatedData.from_arrays([x for x, _ in drawn], [y for _, y in drawn])
        test = samples(20, self.shape, self.classes, seed=1000)
        settings = {**self.settings, **changed}
        return fedfast.Simulation(self.model(), clients, algorithm, test=test, **HERE, **settings)


HERE: Mapping[str, Any] = {"device": "cpu", "backend": "native"}
BOTH = ("fedavg", "fedsam")


def quickstart(algorithm: str) -> fedfast.Simulation:
    """Three rounds of the example."""
    config = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))
    data = fedfast.data.load(**config.pop("data"))
    chosen, dealt = config.pop("model"), config.pop("partition")
    shape, seed = tuple(data.train.x.shape[1:]), config["seed"]
    clients = fedfast.data.partition(dealt.pop("name"), data.train, seed=seed, **dealt)
    name = chosen.pop("name")
    model = fedfast.models.build(name, input_shape=shape, classes=data.classes, seed=seed, **chosen)
    page = fedfast.algorithms.by_name(algorithm, **config.pop("algorithms")[algorithm])
    config |= {"rounds": 3}
    return fedfast.Simulation(model, clients, page, test=data.test, **HERE, **config)


GREY, COLOUR = (1, 28, 28), (3, 32, 32)
SMALL = {"channels": (4, 12), "hidden": (1024, 1024)}
WIDE = {"channels": (32, 64), "hidden": (512,)}


def workload(
    name: str, shape: tuple[int, ...], sizes: Sequence[int], batch: int, **options: Any
) -> Task:
    """One round of a model of the papers' size. Verified elsewhere: here it would take longest."""
    settings = {"rounds": 1, "participation": 1.0, "batch_size": batch, "lr": 0.05, "seed": 3}
    return Task(
        lambda: fedfast.models.build(name, input_shape=shape, classes=10, **options),
        *(shape, 10, sizes, settings | {"verify": False}),
    )


# Models and batches of the round benchmark, but for W5's batch: a full one, and a rest that fills
# no tile of a product.
WORKLOADS = {
    "W1": workload("cnn", GREY, (57, 7), 50),
    "W1b": workload("lenet", GREY, (53, 17), 48, **SMALL),
    "W1c": workload("lenet", GREY, (53, 5), 48, **WIDE),
    "W2": workload("mlp", GREY, (110, 50, 33), 50),
    "W3": workload("mlp", GREY, tuple(range(1, 41)), 10),
    "W4": workload("lenet", COLOUR, (70, 9), 64),
    "W5": workload("resnet18-gn", COLOUR, (2,), 2),
}


def mlp() -> nn.Module:
    """Widths that no vector divides."""
    return fedfast.models.build("mlp", input_shape=(13,), classes=5, hidden=(17,))


def noisy() -> nn.Module:
    """The small network that FedCR asks for."""
    options: dict[str, Any] = {"body": "mlp", "hidden": (17,), "dimZ": 6}
    return fedfast.models.build("stochastic", input_shape=(13,), classes=5, **options)


def untraced() -> nn.Module:
    """The same with an activation that no layer program has, running statistics and dropout."""
    flatten, fc1, _, fc2 = mlp().children()
    between = nn.Softplus(), nn.BatchNorm1d(17), nn.Dropout(0.25)
    return nn.Sequential(flatten, fc1, *between, fc2)


SHORT = {"rounds": 2, "participation": 0.5, "local_epochs": 2, "batch_size": 4, "seed": 3}
RATES = {"lr": 0.1, "lr_decay": 0.9}
DENSE = Task(mlp, (13,), 5, (7, 10, 3, 12, 9, 5), SHORT | RATES)
NOISY = Task(noisy, (13,), 5, (7, 10, 3, 12, 9, 5), SHORT | RATES)
UNTRACED = Task(untraced, (13,), 5, (8, 10, 6, 12, 7, 11), SHORT | RATES)
STATEFUL = ("scaffold", "feddyn", "fedsmoo", "fedgloss", "fedfsa", "mofedsam")
LONGER = {"rounds": 3, "weight_decay": 1e-3, "clip_norm": 1.0, "verify": False}
MODELS = {"fedcr": NOISY}  # of algorithms that ask for one of their own
OWN = {"fedsgd": {"batch_size": None, "local_epochs": 1}}  # settings that an algorithm demands
THREADS = " on 2 threads"


def runs() -> Iterator[tuple[str, Run]]:
    """Every run after its name in the file."""
    yield from large()
    yield from _every_algorithm()
    for name in (*BOTH, *STATEFUL):
        yield f"mlp {name} longer", partial(DENSE, name, **LONGER)
        yield f"mlp {name} float64", partial(DENSE, name, **LONGER, dtype=torch.float64)
    for task, name in ((DENSE, "fedsol"), (NOISY, "fedcr")):
        yield f"generic {name}", partial(task, name, loss=F.cross_entropy)
    for name in (*BOTH, "scaffold", "fedfsa"):
        yield f"generic softplus {name}", partial(UNTRACED, name)
    for label, name in (("W2", "fedsam"), ("W4", "fedavg")):
        yield f"{label} {name}{THREADS}", partial(WORKLOADS[label], name, threads=2)
    yield f"mlp scaffold{THREADS}", partial(DENSE, "scaffold", threads=2)


def large() -> Iterator[tuple[str, Run]]:
    """Those that use all kernels of products and convolutions."""
    for name in BOTH:
        yield f"quickstart {name}", partial(quickstart, name)
        for label, task in WORKLOADS.items():
            if (label, name) != ("W5", "fedavg"):  # a second, and FedSAM's passes are the same
                yield f"{label} {name}", partial(task, name)


def _every_algorithm() -> Iterator[tuple[str, Run]]:
    for name in fedfast.algorithms.names():
        yield f"mlp {name}", partial(MODELS.get(name, DENSE), name, **OWN.get(name, {}))


def parts() -> list[str]:
    """The instruction sets of the file that this machine has."""
    found = []
    for name in PARTS:
        with isa(name):
            found += [name] if _fedfast.gemm_isa() == ISAS[name] else []
    return found


def digests(part: str, named: Iterable[tuple[str, Run]]) -> dict[str, str]:
    """Of these runs under an instruction set, made in this process."""
    found = {}
    with isa(part):
        for name, begin in named:
            sim = begin()
            assert bool(sim.generic_because) == name.startswith("generic"), name
            sim.run(progress=False)
            found[name] = digest(sim)
    return found


def measured(choice: str) -> dict[str, dict[str, str]]:
    """Part -> name -> digest, made in a process whose torch does not depend on the processor.

    choice  "all" runs in all parts, or "some": all under the widest instruction set, else `large`
    """
    command = [sys.executable, __file__, choice]
    done = subprocess.run(command, env=os.environ | PLAIN, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kept() -> dict[str, Any]:
    """What the file says: `torch` is the version, the rest name -> digest for each part."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def version() -> str:
    """Of torch, whatever it was built for."""
    return torch.__version__.partition("+")[0]


def write() -> None:
    """The file anew. Only a machine with every part can."""
    if parts() != list(PARTS):
        sys.exit(f"expected a processor with {', '.join(PARTS)}; it has {', '.join(parts())}")
    content = {"torch": version()} | measured("all")
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main(choice: str) -> None:
    """What the command line asks for."""
    if choice == "--write":
        write()
    elif choice in ("all", "some"):
        here = parts()
        whole = here if choice == "all" else here[-1:]
        chosen = {part: runs() if part in whole else large() for part in here}
        print(json.dumps({part: digests(part, named) for part, named in chosen.items()}))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main("".join(sys.argv[1:]))
