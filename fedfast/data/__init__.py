"""Data: readers, partitions over clients, and the bank that holds every client's samples."""

from .federated import FederatedData
from .idx import read_idx
from .partitions import dirichlet, iid, partition, shards
from .readers import Data, load
from .samples import Samples, as_samples
from .transform import AUGMENTS, Augment, Normalize

__all__ = [
    "AUGMENTS",
    "Augment",
    "Data",
    "FederatedData",
    "Normalize",
    "Samples",
    "as_samples",
    "dirichlet",
    "iid",
    "load",
    "partition",
    "read_idx",
    "shards",
]
