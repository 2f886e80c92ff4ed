"""All clients at once: `torch.func.vmap` of `grad`, eager or compiled; a baseline of rounds."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from baselines import EPS, ClientWork
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap


class VmappedLoop:
    """FedAvg over stacked parameters `[K, ...]`, one `vmap(grad)` per local step; FedSAM, two.

    Clients must have batches of the same sizes.
    chunk     K, clients at once, a divisor of the cohort; None takes all
    compiled  the whole step under `torch.compile`
    rho       SAM's radius
    """

    SETTINGS = (10, None)

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        lr: float,
        chunk: int | None = None,
        compiled: bool = False,
        rho: float | None = None,
    ) -> None:
        self.x, self.y, self.chunk = x, y, chunk
        self.start = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.mean = {name: torch.empty_like(p) for name, p in self.start.items()}
        self.stacked: dict[str, Tensor] = {}
        module = deepcopy(model).train()

        def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(module, parameters, (x,)), y)

        def step(stacked: dict[str, Tensor], x: Tensor, y: Tensor) -> None:
            g = vmap(grad(loss))(stacked, x, y)
            if rho is not None:
                g = vmap(grad(loss))(_ascended(stacked, g, rho), x, y)
            for name, p in stacked.items():
                p.sub_(g[name], alpha=lr)

        # fullgraph: a graph break or the recompilation limit must raise, not fall back to eager
        self.step = torch.compile(step, dynamic=False, fullgraph=True) if compiled else step

    @torch.no_grad()
    def round(self, cohort: Sequence[ClientWork]) -> None:
        """Train the cohort chunk by chunk; the mean grows by one product per chunk and tensor."""
        chunk = self.chunk or len(cohort)
        if len({tuple(work.sizes) for work in cohort}) > 1 or len(cohort) % chunk:
            raise ValueError("cohort: vmap needs whole chunks of clients with equal batch sizes")
        if not self.stacked:
            self.stacked = {k: p.expand(chunk, *p.shape).clone() for k, p in self.start.items()}
        for mean in self.mean.values():
            mean.zero_()
        for begin in range(0, len(cohort), chunk):
            self._train(cohort[begin : begin + chunk])
        for name, mean in self.mean.items():
            self.start[name].copy_(mean)

    def state_dict(self) -> dict[str, Tensor]:
        """The global model."""
        return self.start

    def _train(self, works: Sequence[ClientWork]) -> None:
        for name, p in self.stacked.items():
            p.copy_(self.start[name])
        rows = torch.stack([work.rows for work in works])
        for batch in rows.split(works[0].sizes, dim=1):
            self.step(self.stacked, self.x[batch], self.y[batch])
        for name, p in self.stacked.items():
            shares = [work.weight for work in works]
            weights = torch.tensor(shares, dtype=p.dtype, device=p.device)
            self.mean[name].view(-1).addmv_(p.flatten(1).T, weights)


def _ascended(stacked: dict[str, Tensor], g: dict[str, Tensor], rho: float) -> dict[str, Tensor]:
    """`w + rho g / |g|`, each client with its own norm."""
    norms = torch.stack([t.flatten(1).norm(dim=1) for t in g.values()]).norm(dim=0)
    scale = rho / (norms + EPS)
    return {k: w.addcmul(g[k], scale.view(-1, *[1] * (w.ndim - 1))) for k, w in stacked.items()}
