"""Centralized training: one model on everybody's data, the upper bound of the comparison.

    v <- v - eta (clip(g(v)) + wd v) over `local_epochs` epochs of the pooled samples per round

Nothing is federated: the clients' samples are pooled, one "client" takes part in every round and
the server takes its model over. No communication.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import ALGORITHMS, Algorithm


@ALGORITHMS.register("centralized")
@dataclass(frozen=True)
class Centralized(Algorithm):
    """The clients' optimizer on the pooled data; `local=SAM(...)` for SAM."""

    down: ClassVar[int] = 0
    up: ClassVar[int] = 0
    pools: ClassVar[bool] = True
