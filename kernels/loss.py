"""`cross_entropy`: K clients' mean cross-entropy and its gradient, over ragged batches.

    losses[k]        = mean over b < count[k] of  log sum_c exp(z[k, b, c]) - z[k, b, target]
    dlogits[k, b, c] = (softmax(z)[k, b, c] - [c = target]) / count[k]   for b < count[k], else 0

The largest logit of a row is subtracted first. Since rows beyond the count get a gradient of
exactly 0, every layer below may run on the full batch.
Bytes per element (f = element size): reads f, writes f. Operations: about 20 per logit.
Deterministic: a client's rows are added in one order, in float64: one thread's or one program's
work, in Triton several programs' where the batch is large, whose parts are added in their order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._blocks import by_class, written
from .declaration import In, Out
from .operation import operation

OUT_OF_RANGE = "targets, count: expected targets in [0, C) and counts in [0, B]; one is not"


def _contiguous(name: str, losses: Tensor | None, logits: Tensor) -> Tensor:
    losses = written(name, losses, logits.shape[:1], logits)
    if len(losses) > 1 and losses.stride(0) != 1:
        raise ValueError(f"{name}: expected a contiguous tensor; got stride {losses.stride(0)}")
    return losses


@operation(
    In("logits", "K B C", check=by_class),
    In("targets", "K B", torch.int64),
    In("count", "K", torch.int32),
    Out("losses", "K", check=_contiguous, using="logits"),
    Out("dlogits", "K B C", may="logits"),
    returns="losses dlogits",
    out_of_range=OUT_OF_RANGE,
    moves="logits + dlogits",
)
def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    count: Tensor,
    *,
    losses: Tensor | None = None,
    dlogits: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return (losses, dlogits).

    logits   `[K, B, C]`, each client's part contiguous
    targets  `[K, B]` int64, classes in [0, C); what lies beyond the count is not read
    count    `[K]` int32, in [0, B]; with 0 the loss is NaN, as torch's, and the gradient 0
    losses   `[K]` contiguous, allocated if None
    dlogits  `[K, B, C]`, allocated if None; may be logits
    Raises TypeError/ValueError naming the argument, IndexError for a target or count out of range
    (the native backend then has written the other clients). Triton cannot look without
    waiting for the device: there a bad target makes its row and its client's loss NaN, a bad count
    the loss.
    """
