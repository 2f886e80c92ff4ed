"""`embedding` and its backward: K clients' tables of words, one row per token.

    out[k, ...]   = weight[k, token[k, ...]]
    dweight[k, v] = beta base[k, v] + alpha sum over tokens equal to v of dout

Bytes (f = element size): f E per token read and written; backward also f V E written, and read
where beta is not 0: the whole table, since a plain SGD step may ride on it.
Deterministic: a client is one thread's work, or a word one program's; tokens are added in order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import native_sequences
from ._args import Coefficient, per_client
from ._blocks import block, floating, integers, written
from .reference import embedding as reference
from .registry import dispatch
from .triton import embedding as triton


def embedding(
    token: Tensor, weight: Tensor, *, out: Tensor | None = None, backend: str = "auto"
) -> Tensor:
    """Return the words' vectors.

    token   `[K, ...]` int64, words in [0, V)
    weight  `[K, V, E]`, each client's part contiguous, any stride over K
    out     `[K, ..., E]`, allocated if None
    Raises TypeError/ValueError naming the argument, IndexError for a token out of range (the native
    voice then has written the other clients). The Triton voice cannot look without waiting for the
    device: there such a token's vector is NaN, and backward it adds nothing.
    """
    weight = floating("weight", weight, "K, V, E")
    token = _tokens(token, weight)
    out = written("out", out, (*token.shape, weight.shape[2]), weight)
    return dispatch(_FORWARD, backend, weight, token, weight, out)


def embedding_backward(
    token: Tensor,
    dout: Tensor,
    *,
    dweight: Tensor,
    padding: int | None = None,
    alpha: Coefficient = 1.0,
    beta: Coefficient = 0.0,
    base_weight: Tensor | None = None,
    backend: str = "auto",
) -> None:
    """Write the gradient of `embedding` into dweight.

    token, dout  `[K, ...]` int64 and `[K, ..., E]`
    dweight      `[K, V, E]`: `beta * base_weight + alpha * gradient`
    padding      a word whose gradient stays 0
    alpha, beta  numbers or `[K]`; where beta is 0 base_weight is not read
    base_weight  as dweight, which it defaults to
    Raises as `embedding`.
    """
    dweight = floating("dweight", dweight, "K, V, E")
    dweight = written("dweight", dweight, dweight.shape, dweight)
    token = _tokens(token, dweight)
    dout = block("dout", dout, (*token.shape, dweight.shape[2]), dweight)
    base = dweight if base_weight is None else base_weight
    base = block("base_weight", base, dweight.shape, dweight)
    scales = per_client("alpha", alpha, dweight), per_client("beta", beta, dweight)
    none = -1 if padding is None else int(padding)
    dispatch(_BACKWARD, backend, dweight, token, dout, none, dweight, *scales, base)


def _tokens(token: Any, weight: Tensor) -> Tensor:
    shape = (weight.shape[0], *getattr(token, "shape", (0,))[1:])
    return integers("token", token, shape, torch.int64, weight)


_FORWARD = {
    "reference": reference.embedding,
    "native": native_sequences.embedding,
    "triton": triton.embedding,
}
_BACKWARD = {
    "reference": reference.embedding_backward,
    "native": native_sequences.embedding_backward,
    "triton": triton.embedding_backward,
}
