"""`kl_gradient`: the gradient of K clients' mean divergence from other logits, over ragged batches.

    p = softmax(logits / T),  q = softmax(before / T)
    out[k, b] = (p[k, b] - q[k, b]) / (T count[k])   for b < count[k], else 0

It is that of  mean over b of KL(q || p)  with respect to the logits, without the factor T^2.
Logits that are those before give exactly 0.
Bytes per element (f = element size): reads 2 f, writes f. Operations: about 60 per logit.
Deterministic: a row is one thread's or one program's work; sums are added in order, in float64.
Source: Hinton et al. 2015, "Distilling the knowledge in a neural network", eq. 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._blocks import by_class
from ._scalars import number
from .declaration import Argument, In, Made, Out
from .operation import operation

OUT_OF_RANGE = "count: expected counts in [0, B]; one is not"


def _temperature(name: str, value: float) -> float:
    value = number(name, value)
    if not value > 0:
        raise ValueError(f"{name}: expected a number > 0; got {value}")
    return value


def _inverse(temperature: float) -> float:
    return 1 / temperature


@operation(
    In("logits", "K B C", check=by_class),
    In("before", "K B C"),
    In("count", "K", torch.int32),
    Argument("temperature", check=_temperature, passed=False),
    Made("scale", check=_inverse, using="temperature"),
    Out("out", "K B C", may="logits"),
    returns="out",
    out_of_range=OUT_OF_RANGE,
    moves="logits + before + out",
)
def kl_gradient(
    logits: Tensor,
    before: Tensor,
    count: Tensor,
    temperature: float = 1.0,
    *,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out`.

    logits       `[K, B, C]`, each client's part contiguous
    before       as logits; those that the divergence is measured from
    count        `[K]` int32, in [0, B]
    temperature  T > 0
    out          as logits; may be logits; allocated if None
    Raises TypeError/ValueError naming the argument, IndexError for a count out of range (the native
    backend then has written the other clients). Triton cannot look without waiting for the device:
    there such a client's gradient is NaN.
    """
