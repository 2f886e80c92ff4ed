"""fedfast under pfl: what pfl.py runs, with `CohortBackend` in place of `SimulatedBackend`."""

import sys

from fedfast.integrations.pfl import CohortBackend

from .pfl import PflRounds, start
from .protocol import Task, serve


class FastRounds(PflRounds):
    """pfl's rounds, which must not fall back to its own loop."""

    def __init__(self, task: Task, algorithm: str) -> None:
        super().__init__(task, algorithm, CohortBackend)

    def round(self, t):
        super().round(t)
        if self.backend.loop_because:
            raise RuntimeError(f"not trained by fedfast: {self.backend.loop_because}")


if __name__ == "__main__":
    serve(
        Task(sys.argv[1]),
        lambda task, algorithm, setting: start(task, algorithm, setting, FastRounds),
        ("pfl", "torch"),
    )
