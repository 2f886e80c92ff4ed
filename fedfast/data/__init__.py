"""Data: readers, partitions over clients, and the bank that holds every client's samples."""

from .federated import FederatedData
from .idx import read_idx
from .partitions import dirichlet, iid, partition, shards
from .readers import Data, load
from .samples import Samples, as_samples

__all__ = [
    "Data",
    "FederatedData",
    "Samples",
    "as_samples",
    "dirichlet",
    "iid",
    "load",
    "partition",
    "read_idx",
    "shards",
]
