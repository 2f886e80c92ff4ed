"""FedAvg. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017.

    client   v_0 = w;  v <- v - eta (clip(g(v)) + wd v)  for K steps    (algorithm 1, ClientUpdate)
    server   w <- w + eta_g sum_k p_k (v_K - w)                         (algorithm 1, line 8)

Client state none; server state w; one gradient per step; one model down, one up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import ALGORITHMS, Algorithm


@ALGORITHMS.register("fedavg")
@dataclass(frozen=True)
class FedAvg(Algorithm):
    """Local SGD and a weighted mean; `local=SAM(...)` makes it FedSAM."""

    verified: ClassVar[str] = "public run"
