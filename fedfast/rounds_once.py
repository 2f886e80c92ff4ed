"""A run's rounds, each drawn once, though several ask for it: what is ahead is read, fetched and
drawn while the round before trains."""

from __future__ import annotations

from .client_sampling import Round, Schedule


class RoundsOnce:
    """Keeps the round that was drawn last and its neighbours, with both exchanges of each."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._held: dict[tuple[int, int], Round] = {}

    def round(self, t: int, exchange: int = 0) -> Round:
        """See `Schedule.round`."""
        found = self._held.get((t, exchange))
        if found is None:
            found = self.schedule.round(t, exchange)
            near = {key: held for key, held in self._held.items() if abs(key[0] - t) <= 1}
            self._held = {**near, (t, exchange): found}
        return found
