"""Fused operations over flat `[K, S]` buffers, each in three voices.

The voices are reference (torch), native (C++) and Triton.
"""

from .aggregate import aggregate
from .mix import mix
from .perturb import perturb
from .segments import Segments
from .server import Server
from .stats import Column, cosines, norms, stats
from .step import step

OPERATIONS = ("perturb", "step", "stats", "aggregate", "mix")

__all__ = [
    "OPERATIONS",
    "Column",
    "Segments",
    "Server",
    "aggregate",
    "cosines",
    "mix",
    "norms",
    "perturb",
    "stats",
    "step",
]
