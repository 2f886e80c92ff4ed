"""`ASAM`: SAM with a radius in proportion to each weight."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from .parts import Group
from .sam import SAM, checked


class ASAM(SAM):
    """Adaptive SAM: `e = rho_i t^2 g / (|t g| + 1e-12)`, `t = |w| + eta` on weights, 1 elsewhere.

    rho, eta   0.5 and 0.01 in the authors' code; both may differ between groups
    Weights are the parameters with "weight" in their name where the optimizer is given names
    (`model.named_parameters()`), as in the authors' code; else those of two or more dimensions.
    All else as in `SAM`.
    Source: Kwon et al., "ASAM", ICML 2021.
    """

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.5,
        eta: float = 0.01,
        **kwargs: object,
    ) -> None:
        self._start(params, base_optimizer, {"rho": rho, "eta": eta}, kwargs)

    def _is_weight(self, name: str | None, p: Tensor) -> bool:
        return p.ndim > 1 if name is None else "weight" in name

    def _eta(self, group: Group) -> float:
        return checked("eta", group["eta"])
