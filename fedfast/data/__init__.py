"""Data: readers, partitions over clients, and `FederatedData`, every client's samples."""

from . import cifar, images, leaf, mnist  # noqa: F401  # which register their readers
from .arrays import save_arrays
from .dataset import Data
from .describe import describe
from .dirichlet_shares import dirichlet, dirichlet_equal, hsu
from .federated import FederatedData
from .few_classes import pathological, shards
from .flower import from_flower
from .huggingface import from_huggingface
from .idx import read_idx
from .partitions import iid, natural, partition
from .readers import load
from .registries import PARTITIONS, READERS
from .samples import Samples, as_samples
from .split import local_split
from .transform import AUGMENTS, Augment, Normalize

__all__ = [
    "AUGMENTS",
    "PARTITIONS",
    "READERS",
    "Augment",
    "Data",
    "FederatedData",
    "Normalize",
    "Samples",
    "as_samples",
    "describe",
    "dirichlet",
    "dirichlet_equal",
    "from_flower",
    "from_huggingface",
    "hsu",
    "iid",
    "load",
    "local_split",
    "natural",
    "partition",
    "pathological",
    "read_idx",
    "save_arrays",
    "shards",
]
