"""Runs broken off at chosen lines and moments end with the bits of runs that nobody broke off.

`interrupts.py` tries as many as one likes; here are a few of each kind.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

import pytest
import torch
from federation import federation, mlp
from interrupts import (
    KINDS,
    VARIANTS,
    Interrupt,
    broken_at,
    differences,
    everything,
    lines,
    simulation,
)
from torch import nn

import fedfast
from fedfast.programs.trace import Shapes, explain

RUNS = [(kind, "program") for kind in KINDS]
RUNS += [("scaffold", "generic"), ("feddyn", "dropout"), ("fedfsa", "dropout"), ("keep", "generic")]
RUNS += [("scaffold", "pictures"), ("fedsmoo", "pictures")]


@lru_cache
def undisturbed(kind: str, variant: str) -> tuple[int, dict[str, Any]]:
    """(lines of fedfast in a run that nobody breaks off, what it ends with)."""
    whole = simulation(kind, **VARIANTS[variant]())
    return lines(lambda: whole.run(progress=False)), everything(whole)


@pytest.mark.parametrize(("kind", "variant"), RUNS)
@pytest.mark.parametrize("error", [Interrupt, MemoryError])
def test_a_run_broken_off_at_any_line_goes_on_as_if_it_was_not(kind, variant, error):
    count, expected = undisturbed(kind, variant)
    draw = random.Random(kind + variant)
    for _ in range(3):
        sim, came = simulation(kind, **VARIANTS[variant]()), 0
        for _ in range(3):
            line = draw.randint(1, count)
            came += broken_at(line, lambda sim=sim: sim.run(progress=False), error) == 0
        sim.run(progress=False)
        assert not differences(everything(sim), expected)


@pytest.mark.parametrize("kind", ["scaffold", "fedfsa"])
def test_the_state_between_is_that_of_the_last_complete_round(kind):
    after = [everything(simulation(kind))]
    for _ in (whole := simulation(kind)):
        after.append(everything(whole))
    count = lines(lambda: simulation(kind).run(progress=False))
    for part in range(1, 12):
        sim = simulation(kind)
        broken_at(part * count // 12, lambda sim=sim: sim.run(progress=False), Interrupt)
        assert not differences(everything(sim), {**after[sim.round]})


@pytest.mark.parametrize("place", ["run_node", "call_module"])
def test_memory_that_runs_out_while_a_model_is_looked_at_is_no_finding_about_it(place, monkeypatch):
    """A run that would go on with the slower executor would round otherwise."""

    def runs_out(*_: object, **__: object) -> None:
        raise MemoryError("ours")

    monkeypatch.setattr(Shapes, place, runs_out)
    with pytest.raises(MemoryError, match="ours"):
        explain(mlp(), torch.zeros(2, 8))


def test_memory_that_runs_out_in_a_model_is_not_the_model_s_mistake():
    class Large(nn.Linear):
        def forward(self, x):
            raise MemoryError("ours")

    with pytest.raises(MemoryError, match="ours"):
        fedfast.Simulation(Large(8, 4), federation([4, 4]))
