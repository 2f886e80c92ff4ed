"""Where data sets and partitions are found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from ..registry import Registry
from .dataset import Data
from .federated import FederatedData

PARTITIONS = Registry[Callable[..., FederatedData]](
    "partition", "a function (samples, **options) -> FederatedData", callable
)
READERS = Registry[Callable[..., Data]](
    "data set", "a function (name, root, **options) -> fedfast.data.Data", callable
)


@dataclass(frozen=True)
class Bound:
    """Bounds of a number in a configuration file, named as pydantic does; `None`: unbounded."""

    ge: float | None = None
    gt: float | None = None
    lt: float | None = None


COUNT = Bound(ge=1, lt=1 << 31)
# Parameters that partitions share: type, bounds and the help of the command line.
Population = Annotated[int, COUNT, "number of clients in the population"]
Spread = Annotated[float, Bound(ge=0), "spread of log-normal sizes; 0 = equal ones"]
Classes = Annotated[int, COUNT, "number of classes each client holds"]
Refill = Annotated[bool, "deal an exhausted class again, as FL-Simulator does"]
