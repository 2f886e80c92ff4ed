"""Tensors and numbers at addresses that stay, for recorded steps to read."""

from __future__ import annotations

import torch
from torch import Tensor

from .lr_schedules import Schedulable, at_round
from .transfers import staged


class HeldTensors:
    """Copies by name.

    moved  whether memory was made since whoever reads this last set it to False
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.moved = device, False
        self._held: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def put(self, name: str, t: Tensor, least: int = 0) -> Tensor:
        """A copy of `t` [n, ...] or [], in memory for n or `least`; later ones may be longer."""
        if t.ndim == 0:
            return self.put(name, t[None])[0]
        held = self._held.get(name)
        if held is None or held.shape[1:] != t.shape[1:] or held.dtype != t.dtype:
            held = self._make(name, t, max(len(t), least))
        elif len(held) < len(t):
            held = self._make(name, t, 2 * len(t))
        return held[: len(t)].copy_(staged(t, self.device), non_blocking=True)

    def each(self, name: str, value: float | Tensor, clients: int, room: int) -> Tensor:
        """A number, or one of each client: float64 [clients]."""
        if name not in self._held:
            self._make(name, torch.empty(1, dtype=torch.float64), room)
        out = self._held[name][:clients]
        return out.copy_(value) if isinstance(value, Tensor) else out.fill_(value)

    def number(self, name: str, value: float) -> Tensor:
        """A number, float64 []."""
        if name not in self._held:
            self._make(name, torch.empty(1, dtype=torch.float64), 1)
        return self._held[name][0].fill_(value)

    def whole(self, name: str) -> Tensor:
        """All memory of that name, behind what was put too."""
        return self._held[name]

    def _make(self, name: str, t: Tensor, rows: int) -> Tensor:
        made = torch.zeros(rows, *t.shape[1:], dtype=t.dtype, device=self.device)
        self._held[name], self.moved = made, True
        return made


class RoundNumbers:
    """What schedules say in the round at hand, for each client: `[K]` like `losses`, and float64.

    One that is asked for is kept, and renewed with every round.
    """

    def __init__(self, losses: Tensor) -> None:
        self._like, self._round = losses, 0
        self._held: dict[int, tuple[Schedulable, Tensor, Tensor]] = {}

    def of(self, schedule: Schedulable, wide: bool) -> Tensor:
        """Its values; wide: in float64."""
        if id(schedule) not in self._held:
            narrow = torch.zeros_like(self._like)
            self._held[id(schedule)] = schedule, narrow, narrow.double()
            self._fill(id(schedule))
        _, narrow, wider = self._held[id(schedule)]
        return wider if wide else narrow

    def renew(self, t: int) -> None:
        """Round `t` comes next."""
        self._round = t
        for key in self._held:
            self._fill(key)

    def _fill(self, key: int) -> None:
        schedule, *held = self._held[key]
        for numbers in held:
            numbers.fill_(at_round(schedule, self._round))
