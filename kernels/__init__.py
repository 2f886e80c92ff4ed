"""Fused operations over flat `[K, S]` buffers and `[K, ...]` blocks, one of each for K clients.

Every operation has three implementations: reference (torch), native (C++) and Triton.
"""

import sys
from importlib import import_module
from pkgutil import iter_modules

from . import declaration, native
from .activation import activation, activation_backward
from .adam import adam
from .aggregate import aggregate
from .batch_norm import batch_norm, batch_norm_backward
from .conv import conv, conv_backward
from .conv_pool import conv_pool, conv_pool_backward, pick
from .divergence import kl_gradient
from .dropout import dropout
from .embedding import embedding, embedding_backward
from .gather import gather
from .gaussian import sample_gaussian, sample_gaussian_backward, sum_gaussians
from .gram import gram
from .group_norm import group_norm, group_norm_backward
from .layer_norm import layer_norm, layer_norm_backward
from .layer_reach import layer_reach
from .linear import linear, linear_backward
from .loss import cross_entropy
from .lowrank import ghost, joined, lowrank, reach
from .lstm import lstm, lstm_backward
from .mix import mix
from .packed import advance, fetch
from .perturb import perturb
from .placed import PlacedRows
from .plan import Lanes, Plan, StepsCall
from .plan_arguments import Counted, Soon
from .plan_operations import FEED, TALLY, TURN, feed, tally, turn
from .pool import adaptive_avg, adaptive_avg_backward, pool, pool_backward
from .segments import Segments
from .sensitivity import sensitivity
from .server import Server
from .softmax import log_softmax, log_softmax_backward
from .stats import Column, cosines, norms, stats
from .step import step

# The imports above are for type checkers and editors: a new operation needs none.
for _file in iter_modules(__path__):
    if _file.name != "table":  # no operation: `python -m fedfast.kernels.table` imports it itself
        import_module(f".{_file.name}", __name__)
for _declared in declaration.OPERATIONS.values():
    _module = sys.modules[f"{__name__}.{_declared.module}"]
    globals()[_declared.name] = getattr(_module, _declared.name)

native.compare_all((*declaration.OPERATIONS.values(), FEED, TALLY, TURN))

# On whole models: rows [K, S]. `fedfast.torch_ops` makes these known to torch.
OPERATIONS = ("perturb", "step", "adam", "stats", "aggregate", "mix", "gram", "sensitivity")

__all__ = [
    "OPERATIONS",
    "Column",
    "Counted",
    "Lanes",
    "PlacedRows",
    "Plan",
    "Segments",
    "Server",
    "Soon",
    "StepsCall",
    "activation",
    "activation_backward",
    "adam",
    "adaptive_avg",
    "adaptive_avg_backward",
    "advance",
    "aggregate",
    "batch_norm",
    "batch_norm_backward",
    "conv",
    "conv_backward",
    "conv_pool",
    "conv_pool_backward",
    "cosines",
    "cross_entropy",
    "dropout",
    "embedding",
    "embedding_backward",
    "feed",
    "fetch",
    "gather",
    "ghost",
    "gram",
    "group_norm",
    "group_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "layer_reach",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "lstm",
    "lstm_backward",
    "joined",
    "kl_gradient",
    "lowrank",
    "mix",
    "norms",
    "perturb",
    "pick",
    "pool",
    "pool_backward",
    "reach",
    "sample_gaussian",
    "sample_gaussian_backward",
    "sensitivity",
    "stats",
    "step",
    "sum_gaussians",
    "tally",
    "turn",
]
