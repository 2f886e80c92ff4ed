"""`embedding` and its backward: K clients' tables of words, one row per token.

    out[k, ...]   = weight[k, token[k, ...]]
    dweight[k, v] = beta base[k, v] + alpha sum over tokens equal to v of dout

Bytes (f = element size): f E per token read and written; backward also f V E written, and read
where beta is not 0: the whole table, since a plain SGD step may ride on it.
Deterministic: a client is one thread's work, or a word one program's; tokens are added in order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._args import Coefficient
from ._scalars import integer
from .declaration import Argument, Base, In, Out, PerClient
from .operation import operation

OUT_OF_RANGE = "token: expected words in [0, {V}); one is not"


def _padding(name: str, word: int | None) -> int:
    return -1 if word is None else integer(name, word)


@operation(
    In("token", "K ...", torch.int64),
    In("weight", "K V E"),
    Out("out", "K ... E"),
    like="weight",
    returns="out",
    out_of_range=OUT_OF_RANGE,
    moves="2 out",
)
def embedding(
    token: Tensor, weight: Tensor, *, out: Tensor | None = None, backend: str = "auto"
) -> Tensor:
    """Return the words' vectors.

    token   `[K, ...]` int64, words in [0, V)
    weight  `[K, V, E]`, each client's part contiguous, any stride over K
    out     `[K, ..., E]`, allocated if None
    Raises TypeError/ValueError naming the argument, IndexError for a token out of range (the native
    backend then has written the other clients). Triton cannot look without waiting for the
    device: there such a token's vector is NaN, and backward it adds nothing.
    """


@operation(
    In("token", "K ...", torch.int64),
    In("dout", "K ... E"),
    Argument("padding", check=_padding),
    Out("dweight", "K V E", may="base_weight"),
    PerClient("alpha"),
    PerClient("beta"),
    Base("base_weight", "K V E", of="dweight"),
    like="dweight",
    out_of_range=OUT_OF_RANGE,
    moves="dout + 2 dweight",
)
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
