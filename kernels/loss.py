"""`cross_entropy`: K clients' mean cross-entropy and its gradient, over ragged batches.

    losses[k]        = mean over b < count[k] of  log sum_c exp(z[k, b, c]) - z[k, b, target]
    dlogits[k, b, c] = (softmax(z)[k, b, c] - [c = target]) / count[k]   for b < count[k], else 0

The largest logit of a row is subtracted first. Since rows beyond the count get a gradient of
exactly 0, every layer below may run on the full batch.
Bytes per element (f = element size): reads f, writes f. Operations: about 20 per logit.
Deterministic: a client is one thread's or one program's work; its rows are added in one order, in
float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import native_layers
from ._blocks import floating, integers, written
from .reference import loss as reference
from .registry import dispatch
from .triton import loss as triton


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
    (the native voice then has written the other clients). The Triton voice cannot look without
    waiting for the device: there a bad target makes its row and its client's loss NaN, a bad count
    the loss.
    """
    logits = floating("logits", logits, "K, B, C")
    clients, batch, classes = logits.shape
    if classes == 0:
        raise ValueError(f"logits: expected at least one class; got shape {list(logits.shape)}")
    targets = integers("targets", targets, (clients, batch), torch.int64, logits)
    count = integers("count", count, (clients,), torch.int32, logits)
    losses = written("losses", losses, (clients,), logits)
    if clients > 1 and losses.stride(0) != 1:
        raise ValueError(f"losses: expected a contiguous tensor; got stride {losses.stride(0)}")
    dlogits = written("dlogits", dlogits, logits.shape, logits)
    dispatch(_VOICES, backend, logits, logits, targets, count, losses, dlogits)
    return losses, dlogits


_VOICES = {
    "reference": reference.cross_entropy,
    "native": native_layers.cross_entropy,
    "triton": triton.cross_entropy,
}
