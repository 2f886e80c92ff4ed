"""Public callables with a valid call each, hostile values, and what an error must say.

`python tests/bad_calls.py` gives every argument every value and prints what is wrong with the
errors; `--count N` draws N such calls instead, `--only PART` keeps the targets with PART in their
name.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from dataclasses import MISSING, dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fedfast
from fedfast import FederatedData, Schedule, Simulation, algorithms, config, data, kernels, models
from fedfast.declarations import declarations
from fedfast.history import History
from fedfast.layout import FlatLayout
from fedfast.options import SimulationOptions

ROOT = Path(__file__).parents[1]
OURS = tuple(str((ROOT / folder).resolve()) for folder in ("fedfast", "kernels"))
NOWHERE = Path("/nowhere/at/all")


def _object_array() -> np.ndarray:
    array = np.empty(2, dtype=object)
    array[:] = [None, "a"]
    return array


# name -> a function that makes the value: generators and lists are used up or changed by a call
HOSTILE: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "-1": lambda: -1,
    "0": lambda: 0,
    "1.5": lambda: 1.5,
    "2**70": lambda: 2**70,
    "10**5000": lambda: 10**5000,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "np nan": lambda: np.float64("nan"),
    "0-d array": lambda: np.array(3),
    "complex": lambda: 1 + 2j,
    "empty word": lambda: "",
    "word": lambda: "word",
    "zero byte": lambda: "a\0b",
    "bytes": lambda: b"bytes",
    "'3'": lambda: "3",
    "[]": lambda: [],
    "[1, 2]": lambda: [1, 2],
    "[-1]": lambda: [-1],
    "nested": lambda: [[1], [2, 3]],
    "strings": lambda: ["a", "b"],
    "tuple": lambda: (1, "a"),
    "dict": lambda: {"a": 1},
    "int dict": lambda: {0: [0]},
    "set": lambda: {1, 2},
    "object": object,
    "class": lambda: dict,
    "function": lambda: len,
    "lambda": lambda: lambda *_: None,
    "generator": lambda: (i for i in range(3)),
    "empty tensor": lambda: torch.empty(0),
    "float tensor": lambda: torch.rand(4, 3),
    "nan tensor": lambda: torch.full((8, 1, 4, 4), float("nan")),
    "int tensor": lambda: torch.arange(5),
    "complex tensor": lambda: torch.ones(3, dtype=torch.complex64),
    "meta tensor": lambda: torch.empty(3, device="meta"),
    "object array": _object_array,
    "mismatched pair": lambda: (torch.rand(3, 2), torch.zeros(5)),
    "module": nn.Identity,
    "module class": lambda: nn.Linear,
    "path of nowhere": lambda: NOWHERE,
    "dtype": lambda: torch.float16,
    "device": lambda: torch.device("meta"),
    "huge list": lambda: list(range(100_000)),
}


@dataclass(frozen=True)
class Target:
    """A callable, how it is called rightly, and the words by which errors may name an argument."""

    name: str
    call: Callable[..., object]
    valid: Callable[[], dict[str, Any]]
    also: Mapping[str, tuple[str, ...]]


@cache
def samples() -> tuple[torch.Tensor, torch.Tensor]:
    """24 images of 4 x 4, 3 classes."""
    return torch.rand(24, 1, 4, 4), torch.arange(24) % 3


@cache
def federated() -> FederatedData:
    """Three clients of 8 samples."""
    return data.iid(samples(), clients=3)


def model() -> nn.Module:
    """A layer program's model."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


@cache
def simulation() -> Simulation:
    """Two rounds done, personal models kept."""
    page = algorithms.by_name("fedavg", keep_models=True)
    sim = Simulation(model(), federated(), page, rounds=2, batch_size=4, test=samples())
    sim.run(progress=False)
    return sim


@cache
def folder() -> Path:
    """Where files may be written."""
    return Path(tempfile.mkdtemp())


def _simulation_valid() -> dict[str, Any]:
    options = {option.name: option.default for option in declarations(SimulationOptions)}
    own = {"model": model(), "clients": federated(), "test": samples()}
    small = {"rounds": 2, "participation": 1.0, "batch_size": 4, "chunk": 1, "threads": 1}
    return options | own | small | {"clip_norm": 1.0, "device": "cpu", "memory": 1.0}


def _targets_of_runs() -> Iterator[Target]:
    def fresh() -> Simulation:
        return Simulation(model(), federated(), rounds=1, batch_size=4)

    yield Target("Simulation", Simulation, _simulation_valid, {"clients": ("x", "xs")})
    yield _target("evaluate", lambda **k: simulation().evaluate(**k), test=samples())
    yield _target("client_state_dict", lambda **k: simulation().client_state_dict(**k), i=0)
    yield _target("save", lambda **k: simulation().save(**k), path=folder() / "state")
    yield _target("load", lambda **k: simulation().load(**k), path=folder() / "none")
    yield _target("run", lambda **k: fresh().run(**k), progress=False, label="a")
    yield _target(
        "History.to_csv", lambda **k: History().to_csv(**k), path=folder() / "history.csv"
    )
    yield _target("History.from_csv", History.from_csv, path=folder() / "none.csv")
    yield _target("History.plot", lambda **k: History().plot(**k), path=None, label="run")
    yield _target("History.column", lambda **k: History().column(**k), name="loss")
    yield _target("History.scalar", lambda **k: simulation().history.scalar(**k), name="loss")
    yield _target("FlatLayout.of", FlatLayout.of, module=model(), dtype=torch.float32, moving=None)


def _targets_of_schedules() -> Iterator[Target]:
    draw = {
        "sizes": [8, 8, 8],
        "rounds": 2,
        "participation": 1.0,
        "local_epochs": 1,
        "batch_size": 4,
        "seed": 0,
        "sampling": "exact",
        "drop_last": False,
    }
    yield _target("Schedule.draw", Schedule.draw, **draw)
    yield _target("Schedule.explicit", Schedule.explicit, cohorts=[[0]], batches=[[[[0, 1]]]])
    made = Schedule.draw(**draw)
    yield _target("Schedule.round", made.round, t=0, exchange=0)
    yield _target("Schedule.check", made.check, sizes=[8, 8, 8])
    yield _target("Round.batches", made.round(0).batches, positions=[0])
    for name, given in (
        ("cosine", {"start": 0.1, "rounds": 5, "end": 0.0}),
        ("ramp", {"start": 0.1, "end": 0.2, "rounds": 5}),
        ("exponential", {"start": 0.1, "decay": 0.5}),
    ):

        def made_of(name: str = name, **given: Any) -> object:
            return algorithms.schedule({"name": name, **given})

        yield _target(f"schedule {name}", made_of, name=name, **given)
    yield _target(
        "schedule", algorithms.schedule, given={"name": "cosine", "start": 1.0, "rounds": 3}
    )


def _targets_of_data() -> Iterator[Target]:
    x, y = samples()
    both = [(x[:4], y[:4])] * 3
    parts = {"xs": [x[:12], x[12:]], "ys": [y[:12], y[12:]], "test": None, "normalize": None}
    yield _target("from_arrays", FederatedData.from_arrays, **parts)
    yield _target(
        "from_index", FederatedData.from_index, samples=(x, y), indices=[[0, 1], [2]], test=None
    )
    yield _target("with_test", federated().with_test, test=both)
    yield _target("client", federated().client, i=0)
    yield _target("as_samples", data.as_samples, obj=(x, y))
    common = {"samples": (x, y), "clients": 3, "seed": 0}
    alpha = {**common, "alpha": 5.0}
    yield _target("dirichlet", data.dirichlet, **alpha, min_size=0, test=(x, y))
    yield _target(
        "dirichlet_equal", data.dirichlet_equal, **alpha, sigma=0.1, refill=False, starve=False
    )
    yield _target("hsu", data.hsu, **alpha)
    yield _target("iid", data.iid, **common, sigma=0.1)
    yield _target("shards", data.shards, **common, classes_per_client=2)
    yield _target("pathological", data.pathological, **common, classes_per_client=2, refill=False)
    owned = data.Samples(x, y, owner=torch.arange(24) % 3)
    yield _target("natural", data.natural, samples=owned, clients=2, seed=0, min_size=1, test=owned)
    yield _target("partition", data.partition, name="iid", **common)
    yield _target("local_split", data.local_split, data=federated(), test_share=0.3, seed=0)
    yield _target("describe", data.describe, data=federated())
    yield _target("data.load", data.load, name="digits", root=folder())
    yield _target("read_idx", data.read_idx, path=folder() / "none", ndim=1, md5=None, kind=8)
    yield _target("Normalize", data.Normalize, mean=(0.5,), std=(0.5,))
    yield _target("Augment", data.Augment, **_defaults(data.Augment))
    yield _target("from_huggingface", data.from_huggingface, dataset=None)
    yield _target("from_flower", data.from_flower, federated=None)


def _targets_of_models() -> Iterator[Target]:
    image = {"input_shape": (1, 16, 16), "classes": 3, "seed": 0}
    options: dict[str, dict[str, Any]] = {
        "cnn": {"channels": (2, 2), "kernel": 3, "hidden": (4,)},
        "lenet": {"channels": (2, 2), "kernel": 3, "hidden": (4,)},
        "mlp": {"hidden": (4,)},
        "mclr": {},
        "resnet18": {},
        "resnet18-gn": {"groups": 2, "stem": "cifar"},
        "mobilenetv2": {"norm": "group", "groups": 2},
        "stochastic": {"body": "mlp", "dimZ": 4, "hidden": (4,)},
    }
    for name, own in options.items():
        # What is common is asked of a small model: a ResNet takes 0.1 s to make.
        given = {**image, **own} if name in ("cnn", "lenet", "stochastic") else own
        fixed = {key: value for key, value in image.items() if key not in given}
        yield _target(f"build {name}", partial(models.build, name, **fixed), **given)
    yield _target("build", models.build, name="mclr", **image)
    yield _target(
        "build lstm",
        partial(models.build, "lstm"),
        **{"input_shape": (5,), "classes": 3, "vocabulary": 9},
        **{"embedding": 2, "hidden": 3, "layers": 1},
    )


def _defaults(page: type[Any]) -> dict[str, Any]:
    found = {}
    for field in fields(page):
        if not field.init:
            continue
        if field.default is not MISSING:
            found[field.name] = field.default
        elif field.default_factory is not MISSING:
            found[field.name] = field.default_factory()
    return found


def _targets_of_algorithms() -> Iterator[Target]:
    for name in algorithms.names():
        yield _target(
            f"by_name {name}",
            partial(algorithms.by_name, name),
            **_defaults(algorithms.ALGORITHMS[name]),
        )
    components = (algorithms.OPTIMIZERS, algorithms.DRIFTS, algorithms.SERVER_RULES)
    for table in components:
        for name, component in table.items():
            try:
                component(**_defaults(component))
            except TypeError:
                continue
            yield _target(f"component {name}", component, **_defaults(component))
    tune = algorithms.FineTune
    yield _target("FineTune", tune, **_defaults(tune))
    yield _target("by_name", algorithms.by_name, name="fedavg")


YAML: dict[str, Any] = {
    "data": {"name": "digits"},
    "partition": {"name": "dirichlet", "clients": 5, "alpha": 0.5},
    "model": {"name": "mlp", "hidden": [8]},
    "rounds": 2,
    "participation": 0.4,
    "local_epochs": 1,
    "batch_size": 20,
    "lr": 0.1,
    "lr_decay": 1.0,
    "weight_decay": 0.0,
    "seed": 0,
    "aggregation": "samples",
    "eval_every": 1,
    "drop_last": False,
    "algorithms": {"fedavg": {"name": "fedavg"}},
}


def _text(value: Any) -> str:
    import yaml

    try:
        return yaml.safe_dump(value, default_flow_style=True).replace("...", "").strip()
    except (yaml.YAMLError, ValueError):
        return repr(str(type(value).__name__))


def _config(**given: Any) -> object:
    path = folder() / "config.yaml"
    path.write_text("".join(f"{k}: {_text(v)}\n" for k, v in given.items()), encoding="utf-8")
    return config.load(path)


def _flags(**given: Any) -> object:
    path = folder() / "right.yaml"
    path.write_text("".join(f"{k}: {_text(v)}\n" for k, v in YAML.items()), encoding="utf-8")
    changed = {k: v for k, v in given.items() if v is not YAML[k]}
    args = [a for k, v in changed.items() for a in (f"--{k.replace('_', '-')}", _text(v))]
    return config.load(path, args)


def _targets_of_configs() -> Iterator[Target]:
    yield Target("config", _config, lambda: dict(YAML), dict.fromkeys(YAML, ("YAML syntax",)))
    plain = {k: v for k, v in YAML.items() if not isinstance(v, dict)}
    dashed = {k: (k.replace("_", "-"),) for k in plain}
    yield Target("flags", _flags, lambda: dict(plain), dashed)
    right = ROOT / "examples"
    found = sorted(right.glob("**/*.yaml")) or [NOWHERE]
    yield _target("config.load", config.load, path=found[0])


def _targets_of_kernels() -> Iterator[Target]:
    def row() -> torch.Tensor:
        return torch.rand(2, 64)

    yield _target("kernels.step", kernels.step, w=row(), terms=row(), eta=0.1, out=None)
    yield _target("kernels.perturb", kernels.perturb, w=row(), terms=row(), rho=0.1, out=None)
    yield _target("kernels.Segments.of", kernels.Segments.of, offset=[0, 32], length=[3, 4])


# argument -> how its parts are called, "client 3.x: ..."
ALSO = {
    "xs": ("client",),
    "ys": ("client",),
    "obj": ("data", "samples"),
    "federated": ("partition", "xs"),
    "T_s": ("rounds",),
    "given": ("schedule", "ramp"),
    "terms": ("terms[0]",),
    "w": ("terms[0]",),
    "path": ("expected idx", "cannot be read", "expected a mapping"),
    "name": ("algorithm", "schedule", "partition", "model", "data set"),
}


def _target(target: str, call: Callable[..., object], /, **valid: Any) -> Target:
    return Target(target, call, lambda: dict(valid), ALSO)


@cache
def targets() -> tuple[Target, ...]:
    """All of them."""
    return (
        *_targets_of_runs(),
        *_targets_of_schedules(),
        *_targets_of_data(),
        *_targets_of_models(),
        *_targets_of_algorithms(),
        *_targets_of_configs(),
        *_targets_of_kernels(),
    )


def verdict(target: Target, bad: dict[str, str]) -> str:
    """ "" for a call that is accepted or refused in good words, else what is wrong.

    bad  argument -> the name of the hostile value it is given
    """
    given = target.valid() | {argument: HOSTILE[value]() for argument, value in bad.items()}
    try:
        with warnings.catch_warnings(), chdir(folder()):
            warnings.simplefilter("ignore")
            target.call(**given)
    except Exception as error:
        return _judged(target, bad, error)
    return ""


def _judged(target: Target, bad: dict[str, str], error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__}: {str(error)[:160]} ({Path(last.filename).name}:{last.lineno})"
    if isinstance(error, OSError) and (error.filename or "nowhere" in str(error)):
        return ""  # it names the file
    inside = str(Path(last.filename).resolve()).startswith(OURS)
    if not isinstance(error, (ValueError, TypeError, OSError)) or not inside:
        return f"deep: {where}"
    words = [w for argument in bad for w in (argument, *target.also.get(argument, ()))]
    named = any(re.search(rf"(?<![a-z]){re.escape(w)}(?![a-z])", str(error)) for w in words)
    return "" if named else f"unnamed: {where}"


def shown(target: Target, bad: dict[str, str]) -> str:
    """A call in words."""
    return f"{target.name}({', '.join(f'{k}={v}' for k, v in bad.items())})"


def _all() -> Iterator[tuple[Target, dict[str, str]]]:
    for target in targets():
        for argument in target.valid():
            for value in HOSTILE:
                yield target, {argument: value}


def _drawn(count: int, seed: int) -> Iterator[tuple[Target, dict[str, str]]]:
    rng = random.Random(seed)
    for _ in range(count):
        target = rng.choice(targets())
        chosen = list(target.valid())
        some = rng.sample(chosen, min(len(chosen), rng.choice((1, 1, 2))))
        yield target, {argument: rng.choice(list(HOSTILE)) for argument in some}


def main() -> int:
    """Prints the offenders and their counts; the exit status says whether there are some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    for target, bad in _drawn(args.count, args.seed) if args.count else _all():
        if args.only in target.name:
            found = verdict(target, bad)
            counts[found.partition(":")[0] or "well"] += 1
            if found:
                print(f"{shown(target, bad)} {found}", flush=True)
    print(dict(counts), f"fedfast {fedfast.__version__}")
    return int(set(counts) != {"well"})


if __name__ == "__main__":
    sys.exit(main())
