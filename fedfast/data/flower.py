"""Partitions of Flower (`flwr-datasets`) as clients; the package is not imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from .federated import FederatedData
from .huggingface import read
from .protocols import PartitionedDataset, Partitioner


def from_flower(
    federated: object, image: str | None = None, label: str | None = None, split: str = "train"
) -> FederatedData:
    """Every partition of a Flower data set is a client: the clients and their samples are kept.

    federated     a `flwr_datasets.FederatedDataset`, a partitioner with its data set, or a list of
                  partitions (`datasets.Dataset`)
    image, label  as `from_huggingface`
    split         of a FederatedDataset: the partitioned split to train on. Where test is
                  partitioned too, client i tests on its partition i
    Raises TypeError/ValueError naming the partition.
    """
    train = _partitions(federated, split)
    clients = [read(part, image, label, f"partition {i}") for i, part in enumerate(train)]
    xs, ys = [c.x for c in clients], [c.y for c in clients]
    tests = getattr(federated, "partitioners", {})
    if split == "test" or "test" not in tests:
        return FederatedData.from_arrays(xs, ys)
    parts = _partitions(federated, "test")
    own = [read(part, image, label, f"test partition {i}") for i, part in enumerate(parts)]
    return FederatedData.from_arrays(xs, ys, test=own)


def _partitions(federated: object, split: str) -> list[object]:
    if isinstance(federated, Sequence) and not isinstance(federated, str):
        return list(federated)
    if not hasattr(federated, "load_partition"):
        raise TypeError(
            "federated: expected a FederatedDataset, a partitioner or a list of partitions; "
            f"got {type(federated).__name__}"
        )
    if not hasattr(federated, "partitioners"):
        one = cast(Partitioner, federated)
        return [one.load_partition(i) for i in range(one.num_partitions)]
    federated = cast(PartitionedDataset, federated)
    if split not in federated.partitioners:
        known = list(federated.partitioners)
        raise ValueError(f"split: expected one that is partitioned, {known}; got {split!r}")
    first = federated.load_partition(0, split)  # gives the partitioner its data set
    count = federated.partitioners[split].num_partitions
    return [first, *(federated.load_partition(i, split) for i in range(1, count))]
