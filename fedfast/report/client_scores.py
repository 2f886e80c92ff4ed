"""What `clients.csv` of a run folder says: the last accuracy of each client, and their spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = "clients.csv"
GLOBAL, PERSONAL = "accuracy", "personal_accuracy"
WORST = 0.1  # share of the clients whose mean is reported on its own

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Accuracies of clients, of each seed on its own, and the means over the seeds of three sums.

    mean   over the clients, all alike
    worst  mean of the lowest tenth of the clients (rounded up)
    std    over the clients (divided by n)
    """

    seeds: Sequence[Floats]

    @property
    def mean(self) -> float:
        return _over(self.seeds, np.mean)

    @property
    def worst(self) -> float:
        return _over(self.seeds, lambda of: np.mean(np.sort(of)[: math.ceil(WORST * len(of))]))

    @property
    def std(self) -> float:
        return _over(self.seeds, np.std)


def _over(seeds: Sequence[Floats], of: Callable[[Floats], object]) -> float:
    return float(np.mean([of(values) for values in seeds]))


def last_scores(folder: Path, label: str) -> dict[str, Floats]:
    """Column -> accuracies of the clients [n] in the last round in which `label` was tested.

    {} where the run kept none. Raises ValueError naming the file where it is damaged.
    """
    import pandas as pd

    path = folder / FILE
    if not path.exists():
        return {}
    try:
        table = pd.read_csv(path, converters={"algorithm": str})
        own = table[table["algorithm"] == label]
        last = own[own["round"] == own["round"].max()]
        found = {name: last[name].astype(float) for name in (GLOBAL, PERSONAL) if name in last}
    except (KeyError, ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path}: expected columns algorithm, round, accuracy: {error}") from error
    finite = {name: values[np.isfinite(values)].to_numpy() for name, values in found.items()}
    return {name: values for name, values in finite.items() if len(values)}
