"""Adam and AdamW, as optimizers of an `Ensemble`."""

from __future__ import annotations

from dataclasses import dataclass

from .._messages import format_value
from ..validation.values import Number, boolean


@dataclass(frozen=True)
class Adam:
    """`torch.optim.Adam`; with `decoupled` weight decay `torch.optim.AdamW`.

    betas  of the moments, eps joins the root of the second one
    Source: Kingma and Ba, ICLR 2015; Loshchilov and Hutter, ICLR 2019.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decoupled: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.betas, tuple) or len(self.betas) != 2:
            raise TypeError(f"betas: expected two numbers; got {format_value(self.betas)}")
        for beta in self.betas:
            Number(ge=0)("betas", beta)
            if beta >= 1:
                raise ValueError(f"betas: expected numbers below 1; got {format_value(beta)}")
        Number(ge=0)("eps", self.eps)
        boolean("decoupled", self.decoupled)
