"""`SAGM`: the gradient of the loss at the model and of the loss uphill of it, added."""

from __future__ import annotations

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from .parts import Group, Part
from .sam import SAM, checked


class SAGM(SAM):
    """Sharpness-aware gradient matching: the base step's gradient is `g(w) + g(w + e)`.

        e = (rho_i / (|g| + 1e-12) - alpha_i) g

    rho, alpha  0.05 and 0.001 in the authors' code; both may differ between groups
    variant     "paper"; "official" halves the sum, as the authors' optimizer does
    The sum is in the parameters' gradients after `restore`, which `second_step` calls first: a clip
    before it sees `g(w + e)` alone. All else as in `SAM`.
    Source: Wang et al., "Sharpness-Aware Gradient Matching for Domain Generalization", CVPR 2023.
    """

    keeps = True

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.05,
        alpha: float = 0.001,
        variant: str = "paper",
        **kwargs: object,
    ) -> None:
        if variant not in ("paper", "official"):
            raise ValueError(f"variant: expected 'paper' or 'official'; got {variant!r}")
        self._start(
            params, base_optimizer, {"rho": rho, "alpha": alpha, "variant": variant}, kwargs
        )

    def _alpha(self, group: Group) -> float:
        return checked("alpha", group["alpha"])

    def _settle(self, part: Part) -> None:
        pairs = [(p.grad, g) for p, g in zip(part.parameters, part.first, strict=True)]
        for grad, g in pairs:
            if grad is not None:
                grad.add_(g)
                if part.group["variant"] == "official":
                    grad.mul_(0.5)
