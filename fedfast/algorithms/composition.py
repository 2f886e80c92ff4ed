"""What a component may ask of the algorithm that it is part of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Part(Protocol):
    """A component, as the others see it."""

    @property
    def name(self) -> str:
        """What configs and messages call it."""

    @property
    def server_rows(self) -> tuple[str, ...]:
        """Rows that the server keeps for it."""

    def client_rows(self) -> Mapping[str, str]:
        """Rows that every client keeps for it."""


class LocalPart(Part, Protocol):
    """The clients' optimizer."""

    @property
    def momentum(self) -> float:
        """Of its heavy ball, 0 without one."""


class DriftPart(Part, Protocol):
    """The drift correction."""

    @property
    def plain(self) -> bool:
        """Whether the direction is the gradient and nothing else."""


class Composition(Protocol):
    """An algorithm, as its components see it (`Component.refuses`)."""

    @property
    def local(self) -> LocalPart:
        """The clients' optimizer."""

    @property
    def drift(self) -> DriftPart:
        """The drift correction."""

    @property
    def server(self) -> Part:
        """The server rule."""

    @property
    def pools(self) -> bool:
        """Whether all data belongs to one client."""
