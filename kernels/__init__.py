"""Fused operations over flat `[K, S]` buffers, each in three voices: reference (torch), native (C++), Triton."""

from .aggregate import Server, aggregate
from .mix import mix
from .perturb import perturb
from .segments import Segments
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
