"""Where data sets and partitions are found by name."""

from __future__ import annotations

from collections.abc import Callable

from ..registry import Registry
from .dataset import Data
from .federated import FederatedData

PARTITIONS = Registry[Callable[..., FederatedData]](
    "partition", "a function (samples, **options) -> FederatedData", callable
)
READERS = Registry[Callable[..., Data]](
    "data set", "a function (name, root, **options) -> fedfast.data.Data", callable
)
