"""Where data sets and partitions are found by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from ..registry import Registry
from ..validation.values import Count, Number
from .federated import FederatedData

PARTITIONS = Registry[Callable[..., FederatedData]](
    "partition", "a function (samples, **options) -> FederatedData", callable
)
READERS = Registry[Callable[..., object]](
    "data set", "a function (name, root, **options) -> fedfast.data.Data, (x, y), ...", callable
)


# Parameters that partitions share: type, bounds and the help of the command line.
Population = Annotated[int, Count(), "number of clients in the population"]
Spread = Annotated[float, Number(ge=0), "spread of log-normal sizes; 0 = equal ones"]
Classes = Annotated[int, Count(), "number of classes each client holds"]
Refill = Annotated[bool, "deal an exhausted class again, as FL-Simulator does"]
