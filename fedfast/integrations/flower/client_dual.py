"""`Dual`: what a client of FedGloSS or FedDyn adds to a training function of its own."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, RecordDict
from torch import Tensor, nn

from ..._messages import format_value

KEY = "fedfast.dual"


class Dual:
    """ADMM's terms of one client, which keeps its dual in `context.state` between rounds.

        g <- g + (h + v - v_0) / beta      `correct()`, between backward and the optimizer's step
        h <- h + (v_K - v_0)               `keep()`, after the last step; h = -beta sigma_k

    Make it when the model holds what the server sent, v_0. SAM clients correct the second gradient.

    beta  of the message's config (FedGloSS); 1 / lam for FedDyn
    Raises ValueError for a beta that is not above 0, or a dual of another model.
    """

    def __init__(self, model: nn.Module, state: RecordDict, beta: float) -> None:
        if not beta > 0:
            raise ValueError(f"beta: expected a number above 0; got {format_value(beta)}")
        self.beta, self._state = float(beta), state
        self._weights = [p for p in model.parameters() if p.requires_grad]
        self._start = [p.detach().clone() for p in self._weights]
        self._dual = self._kept() if KEY in state else [torch.zeros_like(p) for p in self._start]

    def _kept(self) -> list[Tensor]:
        kept = [
            torch.from_numpy(a.copy()) for a in self._state.array_records[KEY].to_numpy_ndarrays()
        ]
        if [t.shape for t in kept] != [p.shape for p in self._start]:
            raise ValueError(f"state: expected a dual of this model in {KEY}; got another model's")
        return [t.to(p) for t, p in zip(kept, self._start, strict=True)]

    @torch.no_grad()
    def correct(self) -> None:
        """Add the dual and the proximal term to the gradients."""
        for p, start, h in zip(self._weights, self._start, self._dual, strict=True):
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            p.grad.add_(h + p - start, alpha=1.0 / self.beta)

    @torch.no_grad()
    def keep(self) -> None:
        """Renew the dual, and put it into the state."""
        for p, start, h in zip(self._weights, self._start, self._dual, strict=True):
            h.add_(p - start)
        self._state[KEY] = ArrayRecord([h.cpu().numpy() for h in self._dual])
