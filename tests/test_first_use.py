"""Copies of the user's module are made when somebody trains or evaluates with them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from federation import federation, mlp
from torch import nn

import fedfast
from fedfast import module_evaluator, module_executor
from fedfast.copies import copy_of
from fedfast.first_use import FirstUse


def test_threads_that_ask_at_once_get_the_same_thing() -> None:
    made: list[object] = []

    def make() -> object:
        time.sleep(0.01)
        made.append(object())
        return made[-1]

    once, found = FirstUse(make), list[object]()
    threads = [threading.Thread(target=lambda: found.append(once())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [found[0]] and found == [found[0]] * 8


def test_what_failed_is_tried_again() -> None:
    answers = iter([ValueError("not yet"), None])

    def make() -> None:
        if error := next(answers):
            raise error

    once = FirstUse(make)
    with pytest.raises(ValueError, match="not yet"):
        once()
    assert once() is None and once() is None


def test_nothing_of_the_callers_modes_is_in_it() -> None:
    once = FirstUse(lambda: torch.nn.Parameter(torch.zeros(2)) * 2)
    with torch.inference_mode():
        found = once()
    assert found.requires_grad and not found.is_inference()


TRAINS, EVALUATES = module_executor.__name__, module_evaluator.__name__


@pytest.mark.parametrize(
    ("net", "loss", "expected"),
    [
        (mlp, "cross_entropy", []),
        (mlp, F.cross_entropy, [TRAINS]),  # and a layer program evaluates
        (lambda: nn.Sequential(mlp(), nn.Softplus()), "cross_entropy", [EVALUATES, TRAINS]),
    ],
    ids=["program", "loss", "layer"],
)
def test_a_run_makes_copies_for_what_the_module_does_itself(
    net: Callable[[], nn.Module], loss: Any, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """None as it is made, one of each in two rounds."""
    made: list[str] = []

    def counted(module: nn.Module, of: str) -> nn.Module:
        made.append(of)
        return copy_of(module)

    for of in (module_executor, module_evaluator):
        monkeypatch.setattr(of, "copy_of", lambda m, of=of: counted(m, of.__name__))
    data = federation([9, 4, 13])
    options: dict[str, Any] = dict(rounds=2, batch_size=4, test=data.samples, threads=1)
    sim = fedfast.Simulation(net(), data, "fedsam", loss=loss, **options)
    assert made == []
    sim.run(progress=False)
    assert sorted(made) == expected
