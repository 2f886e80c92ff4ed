"""What is asked of data sets of other libraries, none of which is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class MapDataset(Protocol):
    """A map-style data set of torch: items by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> object: ...


class ColumnDataset(Protocol):
    """A `datasets.Dataset` of Hugging Face: rows by slice, each a map of columns."""

    column_names: Sequence[str]
    features: Mapping[str, object] | None

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> Mapping[str, Sequence[object]]: ...
    def with_format(self, kind: None) -> ColumnDataset: ...


class Partitioner(Protocol):
    """A partitioner of Flower with its data set."""

    num_partitions: int

    def load_partition(self, i: int, /) -> object: ...


class PartitionedDataset(Protocol):
    """A `FederatedDataset` of Flower: a partitioner for each split."""

    partitioners: Mapping[str, Partitioner]

    def load_partition(self, i: int, split: str, /) -> object: ...


class Picture(Protocol):
    """An image of Pillow."""

    mode: str
    size: tuple[int, int]  # width, height

    def convert(self, mode: str, /) -> Picture: ...
    def load(self) -> object: ...
