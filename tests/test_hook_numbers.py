"""Numbers of steps and chunks, as recorded steps read them, against the hook's own of each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from federation import mlp
from fedfast.kernels import advance
from fedfast.kernels.packing import Tally
from torch import Tensor

from fedfast.algorithms.hooks import Clients
from fedfast.hook_numbers import HookNumbers
from fedfast.layout import FlatLayout

ROOM = 5  # clients of the largest chunk


def clients(steps: Sequence[int], t: int = 0, epochs: int = 3) -> Clients:
    """Of a chunk, those with more steps first."""
    layout, many = FlatLayout.of(mlp()), len(steps)
    row, nothing = torch.zeros(layout.trained), dict[str, Any]()
    own = torch.tensor(steps, dtype=torch.float64)
    return Clients(
        layout=layout,
        backend="reference",
        round=t,
        step=0,
        ids=np.arange(many),
        sizes=2.0 * own,
        steps=own,
        epochs=epochs,
        lr=0.1,
        lr_total=0.1 * own,
        seed=0,
        start=row,
        w=row.expand(many, -1),
        g=row.expand(many, -1),
        first=None,
        ahead=None,
        own=nothing,
        scratch=nothing,
        values={"seen": torch.arange(float(many), dtype=torch.float64) + t},
        server=nothing,
        scalars=nothing,
        probe=nothing,
    )


def of_steps(at: Clients) -> tuple[float | Tensor, ...]:
    """One each of what steps share, what clients share, and what neither does."""
    return 0.1, at.step / 3.0, 0.9 ** (at.values["seen"] + at.epoch(at.step))


def doubled(at: Clients) -> tuple[Tensor]:
    return (2.0 * at.epoch(at.step),)


def of_chunk(at: Clients) -> tuple[float | Tensor, ...]:
    return 1.0 / (3.0 + at.round), at.values["seen"] / 3.0, at.values["seen"][:, None].expand(-1, 2)


class Steps:
    """Chunks step after step, as `recorded_steps.py` goes through them."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.losses = torch.zeros(ROOM, dtype=dtype)
        self.numbers = HookNumbers(self.losses)

    def begin(self, at: Clients) -> None:
        self.at, self.taken = replace(at, numbers=self.numbers), at.steps
        self.numbers.begin(self.at, int(at.steps.max()))

    def next(self, s: int) -> Clients:
        """The clients of a step."""
        self.numbers.step = s
        return replace(self.at.prefix(int((self.taken > s).sum())), step=s)

    def end(self, now: Clients) -> None:
        many = len(now)
        count, total = torch.ones(many, dtype=torch.int32), torch.zeros(2, many).double()
        tally = Tally(self.losses[:many], count, total, torch.arange(many), torch.tensor(0))
        advance(tally, self.numbers.turned(many), "reference")


def same(found: Sequence[float | Tensor], now: Clients, hook: Any, dtype: torch.dtype) -> None:
    """What the hook says of this very step, [K] of the rows' dtype."""
    expected = hook(replace(now, numbers=None))
    assert len(found) == len(expected)
    for number, wanted in zip(found, expected, strict=True):
        wanted = torch.as_tensor(wanted, dtype=torch.float64).to(dtype)
        assert isinstance(number, Tensor)
        assert number.dtype == dtype
        assert len(number) == len(now)
        assert torch.equal(number, wanted.expand_as(number))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_of_every_step_are_the_hooks_of_that_step(dtype: torch.dtype) -> None:
    """Of chunks of unlike clients, shorter and longer ones, round after round."""
    steps = Steps(dtype)
    for t, chunk in enumerate([(6, 4, 4, 1), (3,), (12, 12, 2, 1, 1), (30, 1), (6, 4, 4, 1)]):
        steps.begin(clients(chunk, t))
        for s in range(chunk[0]):
            now = steps.next(s)
            same(now.by_chunk(of_chunk), now, of_chunk, dtype)
            same(now.by_step(of_steps), now, of_steps, dtype)
            if t or s > 2:  # known in the middle of a chunk, when fewer clients are left
                same(now.by_step(doubled), now, doubled, dtype)
            steps.end(now)


def test_memory_moves_when_numbers_are_new_or_steps_more() -> None:
    """Whoever recorded a step must know; the same numbers of other chunks lie where they lay."""
    steps, moved = Steps(torch.float32), []
    for chunk in [(4, 3), (3, 3), (4, 1), (90,), (20, 2)]:
        steps.begin(clients(chunk))
        now = steps.next(0)
        first = [*now.by_step(of_steps), *now.by_chunk(of_chunk)]
        again = [*now.by_step(of_steps), *now.by_chunk(of_chunk)]
        assert [n.data_ptr() for n in first] == [n.data_ptr() for n in again]  # type: ignore[union-attr]
        moved.append(steps.numbers.moved)
        steps.numbers.moved = False
    assert moved == [True, False, False, True, False]


def test_outside_of_recorded_steps_the_hook_is_asked() -> None:
    at = replace(clients([4, 2]), step=3)
    assert at.by_step(lambda at: (at.step, at.lr)) == (3, 0.1)
    assert at.by_chunk(lambda at: (at.round,)) == (0,)


@pytest.mark.parametrize("recorded", [False, True])
def test_a_bare_tensor_is_no_answer(recorded: bool) -> None:
    """Its clients would be taken for numbers."""
    steps, at = Steps(torch.float32), clients([4, 2])
    steps.begin(at)
    now = steps.next(0) if recorded else at
    for ask in (now.by_step, now.by_chunk):
        with pytest.raises(TypeError, match="bare: expected a tuple of numbers; got Tensor"):
            ask(bare)


def bare(at: Clients) -> Any:
    return at.steps
