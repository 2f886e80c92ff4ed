"""Which messages are also answered by the app's own function."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

from .unsupported import Unsupported


class SpotChecks:
    """Chooses jobs to check: the first of each kind, and few again in calls 1, 2, 4, 8, ...

    A declaration may be right for one node in one round alone: a data function that forgets the
    partition, a learning rate that falls later, clipping that starts to act, what a function keeps
    somewhere. Each of those calls checks a node that was checked before and one that was not.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._kinds: set[Hashable] = set()
        self._nodes: set[int] = set()

    def chosen(self, kinds: Sequence[Hashable], nodes: Sequence[int]) -> list[tuple[int, bool]]:
        """(place, whether it is the first of its kind) of the jobs to check in this call."""
        places = {kind: kinds.index(kind) for kind in dict.fromkeys(kinds)}
        found = {place: True for kind, place in places.items() if kind not in self._kinds}
        if (self.calls + 1) & self.calls == 0:
            found |= {i: False for i in self._again(nodes, set(found)) if i not in found}
        return sorted(found.items())

    @contextmanager
    def saying_when(self) -> Iterator[None]:
        """Adds to the reason of an `Unsupported` raised inside that it was found late."""
        try:
            yield
        except Unsupported as reason:
            if self.calls == 0:
                raise
            raise Unsupported(
                f"{reason}; found in call {self.calls + 1} only: replies of the earlier ones may "
                "differ from the app's, run it without FastGrid"
            ) from reason

    def done(self, kinds: Sequence[Hashable], nodes: Sequence[int]) -> None:
        """The call is over: these were checked."""
        self.calls += 1
        self._kinds.update(kinds)
        self._nodes.update(nodes)

    def _again(self, nodes: Sequence[int], taken: set[int]) -> list[int]:
        known = self._nodes | {nodes[i] for i in taken}
        new = [i for i, node in enumerate(nodes) if node not in known]
        old = [i for i, node in enumerate(nodes) if node in self._nodes]
        return new[-1:] + old[:1]
