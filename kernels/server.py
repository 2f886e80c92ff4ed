"""The server's rules: what `aggregate` adds to the global row after the last chunk of clients.

    average   w + lr D
    momentum  m = beta1 m + D;  w + lr m
    adam      m = beta1 m + (1-beta1) D;  v = beta2 v + (1-beta2) D^2;  w + lr m / (sqrt v + tau)
    yogi      as adam, but v = v - (1-beta2) D^2 sign(v - D^2)
    adagrad   as adam, but v = v + D^2

D is the mean update, float64. Moments are stored in the row's dtype and used as stored. Sources:
FedAvg (McMahan et al. 2017), FedAvgM (Hsu et al. 2019), FedOpt (Reddi et al. 2021, alg. 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ._scalars import number

RULES = ("average", "momentum", "adam", "yogi", "adagrad")


@dataclass(frozen=True)
class Server:
    """A server rule of `aggregate`: one of RULES, the server's learning rate, and FedOpt's scalars.

    beta1 and beta2 decay the moments m and v, tau is added to sqrt v. Raises ValueError for an
    unknown rule or a number that is not finite, TypeError for what is no number.
    """

    rule: str = "average"
    lr: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule: expected one of {', '.join(RULES)}; got {self.rule!r}")
        for name in ("lr", "beta1", "beta2", "tau"):
            value = getattr(self, name)
            if not math.isfinite(number(name, value)):
                raise ValueError(f"{name}: expected a finite number; got {value}")

    @property
    def moments(self) -> int:
        """How many moment rows the rule keeps: 0, 1 (m) or 2 (m, v)."""
        return {"average": 0, "momentum": 1}.get(self.rule, 2)
