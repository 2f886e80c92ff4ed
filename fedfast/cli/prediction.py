"""`fedfast scale --predict`: what a round would take, by a model that was fitted before."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ..example_files import stem
from .numbers import number, positive

NUMBERS = ("clients", "cohort", "ranks", "threads", "rounds")
ASKED = (*NUMBERS, "algorithm", "bandwidth", "flops", "call")


def predict(given: str, ours: argparse.Namespace) -> int:
    """Prints what a round would take; needs neither torch nor data."""
    from ..scaling.cost_model import load

    folder = Path(ours.out or (given if Path(given).is_dir() else f"runs/{stem(given)}-scale"))
    path = folder / "model.json"
    if not path.exists():
        raise ValueError(f"--predict: expected a model in {path}; `fedfast scale {given}` fits one")
    model, asked = load(path), _asked(ours.predict)
    labels = [asked.pop("algorithm")] if "algorithm" in asked else list(model.algorithms)
    numbers = {name: number(f"--predict {name}", asked.pop(name), 1) for name in _whole(asked)}
    threads = numbers.get("threads") or max(1, model.machine.cores // numbers.get("ranks", 1))
    rates = model.machine.of(threads * numbers.get("ranks", 1))
    rates = replace(rates, **{k: positive(f"--predict {k}", v) for k, v in asked.items()})
    for label in labels:
        found = model.predict(label, rates=rates, **numbers)
        parts = sorted(found.phases.items(), key=lambda part: -part[1])
        shown = ", ".join(f"{n} {1e3 * s:.4g}" for n, s in parts if s > 0.005 * found.seconds)
        print(
            f"{label}: {1e3 * found.seconds:.4g} ms a round, "
            f"{numbers['cohort'] / found.seconds:,.0f} clients/s, {found.host / (1 << 20):,.0f} MiB"
            f" resident\n  ms: {shown}"
        )
    return 0


def _whole(asked: dict[str, str]) -> list[str]:
    return [name for name in NUMBERS if name in asked]


def _asked(text: str) -> dict[str, str]:
    """`clients=1000,cohort=10` by name."""
    found = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if name not in ASKED or not equals:
            known = ", ".join(ASKED)
            raise ValueError(f"--predict: expected NAME=VALUE of {known}; found {part!r}")
        if name in found:
            raise ValueError(f"--predict: expected {name} once, found {text!r}")
        found[name] = value
    for name in ("clients", "cohort"):
        if name not in found:
            raise ValueError(f"--predict: expected {name}=N, found {text!r}")
    return found
