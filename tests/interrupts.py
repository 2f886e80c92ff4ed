"""Rounds broken off anywhere: `python tests/interrupts.py --count 60` tries so many at random.

An interrupt is raised at a line of fedfast chosen by number, or comes as a signal at a moment; then
the simulation is run on. What it ends with must have the bits of the run that nobody interrupted.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from federation import arrays, federation, mlp
from torch import nn

import fedfast
from fedfast import algorithms as alg

SIZES = [9, 1, 13, 4, 30, 2, 8, 21, 5, 12]
HOME = str(Path(fedfast.__file__).parent)
KINDS: dict[str, Any] = {
    "fedavg": alg.FedAvg(),
    "scaffold": alg.SCAFFOLD(),
    "scaffold-full": alg.SCAFFOLD(option="I"),
    "feddyn": alg.FedDyn(),
    "fedfsa": alg.FedFSA(TopC=1, lr_decay=0.9),
    "fedadam": alg.FedAdam(),
    "fedsmoo": alg.FedSMOO(),
    "fedgloss": alg.FedGloSS(),
    "fedlesam-s": alg.FedLESAMS(),
    "fedala": alg.FedALA(p=1),
    "fedcr": alg.FedCR(),
    "keep": alg.FedAvg(keep_models=True),
    "tuned": alg.FedAvg(fine_tune=alg.FineTune()),
}


class Interrupt(KeyboardInterrupt):
    """Ours, not a person's."""


def label_smoothing(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A callable loss, which the module executor takes."""
    return nn.functional.cross_entropy(logits, y, label_smoothing=0.1)


def dropout() -> nn.Module:
    """A model that draws random numbers."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))


def simulation(kind: str, **options: Any) -> fedfast.Simulation:
    """A small run with everything that a round can leave half done."""
    (x,), (y,) = arrays([40])
    data = options.pop("clients", None)
    data = data or federation(SIZES).with_test([(x[:4], y[:4])] * len(SIZES))
    model = options.pop("model", None) or mlp()
    if kind == "fedcr":
        size = dict(input_shape=(8,), classes=4, hidden=[7], dimZ=4)
        model = fedfast.models.build("stochastic", seed=4, **size)
    how = dict(rounds=5, participation=0.4, local_epochs=2, batch_size=4, test=(x, y), chunk=3)
    return fedfast.Simulation(model, data, KINDS[kind], **(how | options))


def everything(sim: fedfast.Simulation) -> dict[str, Any]:
    """What outlives a run, without the clock."""
    engine = sim._engine
    found: dict[str, Any] = dict(engine.state.tensors())
    ids = engine.clients.kept_ids()
    rows, values = engine.clients.export(ids)
    found |= {f"row {k}": v for k, v in rows.items()} | {f"value {k}": v for k, v in values.items()}
    found |= {"ids": ids, "scalars": dict(engine.state.scalars), "stopped": sim.stopped}
    tuned = engine.committed.tuned
    if tuned is not None:
        found |= {"tuned": tuned.rows, "slot": torch.from_numpy(tuned.slot)}
    clocks = dict.fromkeys(
        ("seconds", "clients_per_second", "server_seconds", "evaluation_seconds"), 0
    )
    timeless = [{**vars(row), **clocks} for row in sim.history]
    copies = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in found.items()}
    return copies | {"history": repr(timeless)}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what differs in a bit."""

    def same(a: Any, b: Any) -> bool:
        return type(a) is type(b) and (torch.equal(a, b) if torch.is_tensor(a) else a == b)

    apart = one.keys() ^ other.keys()
    apart |= {name for name in one.keys() & other.keys() if not same(one[name], other[name])}
    return sorted(apart)


def end_alike(sim: fedfast.Simulation, whole: fedfast.Simulation) -> bool:
    """Both, run to their ends, have the same bits."""
    sim.run(progress=False)
    whole.run(progress=False)
    return not differences(everything(sim), everything(whole))


def broken_at(line: int, call: Callable[[], object], error: type[BaseException]) -> int:
    """`call()` with `error` raised at the `line`-th line of fedfast that it comes to.

    Returns how many lines were left to come to; 0 where it was broken off.
    """
    left = line

    def local(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                raise error
        return local

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(HOME) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except error:
        return 0
    finally:
        sys.settrace(before)
    return left


def lines(call: Callable[[], object]) -> int:
    """How many lines of fedfast a call comes to."""
    return (1 << 40) - broken_at(1 << 40, call, Interrupt)


def signalled(after: float, call: Callable[[], object]) -> bool:
    """`call()` under a real SIGINT after so many seconds; whether it came in time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupt

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        call()
        return False
    except Interrupt:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def pictures() -> dict[str, Any]:
    """Images of bytes, augmented, under a convolution and a norm."""
    xs, ys = arrays(SIZES, shape=(1, 6, 6))
    images = [(x * 40 + 128).clamp(0, 255).to(torch.uint8) for x in xs]
    torch.manual_seed(5)
    layers = nn.Conv2d(1, 3, 3), nn.GroupNorm(1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)
    part = images[8], ys[8]
    clients = fedfast.FederatedData.from_arrays(images, ys, test=[part] * len(SIZES))
    model = nn.Sequential(*layers)
    return dict(model=model, clients=clients, test=part, augment="crop-flip")


VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {
    "program": dict,
    "pictures": pictures,
    "generic": lambda: dict(loss=label_smoothing),
    "dropout": lambda: dict(model=dropout()),
}


def main() -> int:
    """The campaign; 1 where a run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    draw, wrong, came = random.Random(options.seed), 0, 0
    whole: dict[tuple[str, str], tuple[dict[str, Any], int, float]] = {}
    kinds = [k for k in KINDS if options.only in k]
    for i in range(options.count):
        kind = kinds[i % len(kinds)]
        # FedCR has a model of its own
        variant = "program" if kind == "fedcr" else draw.choice(list(VARIANTS))
        if (kind, variant) not in whole:
            sim = simulation(kind, **VARIANTS[variant]())
            count = lines(lambda sim=sim: sim.run(progress=False))
            again = simulation(kind, **VARIANTS[variant]())
            began = time.perf_counter()
            again.run(progress=False)
            whole[kind, variant] = everything(again), count, time.perf_counter() - began
        expected, count, seconds = whole[kind, variant]
        sim, times = simulation(kind, **VARIANTS[variant]()), draw.randint(1, 4)
        for _ in range(times):
            if draw.random() < 0.5:
                error = draw.choice([Interrupt, MemoryError, RuntimeError])
                run = lambda sim=sim: sim.run(progress=False)  # noqa: E731
                came += broken_at(draw.randint(1, count), run, error) == 0
            else:
                came += signalled(draw.uniform(1e-4, seconds), lambda s=sim: s.run(progress=False))
        sim.run(progress=False)
        found = differences(everything(sim), expected)
        wrong += bool(found)
        if found:
            print(f"{kind}, {variant}, case {i}: {', '.join(found)}", flush=True)
    print(f"{options.count} runs, {came} interrupts came, {wrong} runs differ")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
