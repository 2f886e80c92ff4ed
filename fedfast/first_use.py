"""Something that is made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .torch_settings import usual_modes

T = TypeVar("T")


class FirstUse(Generic[T]):
    """Called, it is what `make` makes: once, whichever threads ask, in torch's usual modes."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._turn = make, threading.Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        """What was made; what `make` raises, of which the next call tries anew."""
        with self._turn:
            if not self._made:
                with usual_modes():
                    self._made.append(self._make())
            return self._made[0]
