"""What fedfast's rounds are compared with, each written as well as we can.

    TypicalLoop  as published simulators: a deep copy, a DataLoader, `optim.SGD`, a mean of state
                 dicts
    TunedLoop    the same loop without what it does not need: nothing allocated but gradients,
                 foreach updates, one gather per client, a running mean, clients side by side if
                 that is faster

`vmapped.py` has all clients at once.

All train a given schedule: `client_work(data, schedule.round(t))` lists each client's batches, made
before the clock starts. Sources: McMahan et al. 2017 for FedAvg; Qu et al. and Caldarola et al.
2022 for FedSAM (`rho` not None).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fedfast import FederatedData

EPS = 1e-12  # fedfast's, beside the gradient's norm


@dataclass(frozen=True)
class ClientWork:
    """One client's part of a round.

    weight  p_k, its share of the cohort's samples
    rows    [n] rows of the samples in the order of use, cut into batches of these sizes
    """

    weight: float
    rows: Tensor
    sizes: list[int]


def client_work(data: FederatedData, plan) -> list[ClientWork]:
    """The parts of a `Round`'s clients, in the cohort's order."""
    total = data.sizes[plan.clients].sum()
    return [_work(data, plan, j, total) for j in range(len(plan.clients))]


def _work(data: FederatedData, plan, j: int, total: int) -> ClientWork:
    index, count = plan.batches([j])
    rows, client = data.rows(plan.clients[[j]], index)[0], plan.clients[j]
    sizes = [n for n in count[0].tolist() if n]
    batches = [rows[s, :n] for s, n in enumerate(sizes)]
    return ClientWork(float(data.sizes[client] / total), torch.cat(batches), sizes)


class TypicalLoop:
    """Client after client through torch's own parts; per-tensor norms and updates for SAM."""

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, lr: float, rho: float | None = None
    ) -> None:
        self.model, self.data, self.lr, self.rho = deepcopy(model), TensorDataset(x, y), lr, rho

    def round(self, cohort: Sequence[ClientWork]) -> None:
        """Train the cohort and average its state dicts."""
        states = [self._train(work) for work in cohort]
        mean = {
            name: sum(work.weight * state[name] for work, state in zip(cohort, states, strict=True))
            for name in states[0]
        }
        self.model.load_state_dict(mean)

    def state_dict(self) -> dict[str, Tensor]:
        """The global model."""
        return self.model.state_dict()

    def _train(self, work: ClientWork) -> dict[str, Tensor]:
        model = deepcopy(self.model).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=self.lr)
        batches = [rows.tolist() for rows in work.rows.split(work.sizes)]
        for x, y in DataLoader(self.data, batch_sampler=batches):
            optimizer.zero_grad()
            self.loss(model, x, y).backward()
            if self.rho is not None:
                ascent = self._ascend(list(model.parameters()))
                optimizer.zero_grad()
                self.loss(model, x, y).backward()
                self._descend(list(model.parameters()), ascent)
            self.correct(model, work)
            optimizer.step()
        return model.state_dict()

    def loss(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """What clients minimize; `peers/scripts.py` adds to it."""
        return F.cross_entropy(model(x), y)

    def correct(self, model: nn.Module, work: ClientWork) -> None:
        """What a method does to the gradients before a step: nothing."""

    @torch.no_grad()
    def _ascend(self, parameters: list[nn.Parameter]) -> list[Tensor]:
        norm = torch.stack([p.grad.norm(p=2) for p in parameters]).norm(p=2)
        ascent = [p.grad * (self.rho / (norm + EPS)) for p in parameters]
        for p, e in zip(parameters, ascent, strict=True):
            p.add_(e)
        return ascent

    @torch.no_grad()
    def _descend(self, parameters: list[nn.Parameter], ascent: list[Tensor]) -> None:
        for p, e in zip(parameters, ascent, strict=True):
            p.sub_(e)


class TunedLoop:
    """The loop at its best in eager torch; parameters only, no running statistics.

    workers  clients side by side, one Python thread each
    threads  torch's intra-operation threads of each
    """

    SETTINGS = ((1, 1), (1, 2), (2, 1))

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        lr: float,
        rho: float | None = None,
        workers: int = 1,
        threads: int = 1,
    ) -> None:
        self.x, self.y, self.lr, self.rho = x, y, lr, rho
        self.names = [name for name, _ in model.named_parameters()]
        self.start = [p.detach().clone() for p in model.parameters()]
        self.replicas = [deepcopy(model).train() for _ in range(workers)]
        self.means = [[torch.empty_like(p) for p in self.start] for _ in range(workers)]
        self.threads = threads
        self.pool = ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(threads))

    def round(self, cohort: Sequence[ClientWork]) -> None:
        """Train the cohort, every worker adding up its clients' part of the mean."""
        workers = range(min(len(self.replicas), len(cohort)))
        if len(workers) == 1:
            self._alone(cohort)
        else:
            list(self.pool.map(lambda i: self._share(i, cohort[i :: len(workers)]), workers))
        torch._foreach_copy_(self.start, self.means[0])
        for i in workers[1:]:
            torch._foreach_add_(self.start, self.means[i])

    def state_dict(self) -> dict[str, Tensor]:
        """The global model."""
        return dict(zip(self.names, self.start, strict=True))

    def _alone(self, cohort: Sequence[ClientWork]) -> None:
        # On the caller's thread: a second OpenMP team would slow the barriers of all others.
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            self._share(0, cohort)
        finally:
            torch.set_num_threads(before)

    def _share(self, worker: int, cohort: Sequence[ClientWork]) -> None:
        replica, mean = self.replicas[worker], self.means[worker]
        parameters = list(replica.parameters())
        torch._foreach_zero_(mean)
        for work in cohort:
            self._train(replica, parameters, work)
            with torch.no_grad():
                torch._foreach_add_(mean, parameters, alpha=work.weight)

    def _train(self, replica: nn.Module, parameters: list[nn.Parameter], work: ClientWork) -> None:
        with torch.no_grad():
            torch._foreach_copy_(parameters, self.start)
        xs, ys = self.x[work.rows].split(work.sizes), self.y[work.rows].split(work.sizes)
        for x, y in zip(xs, ys, strict=True):
            # autograd.grad hands over fresh gradients: nothing to zero, nothing to accumulate into
            g = torch.autograd.grad(F.cross_entropy(replica(x), y), parameters)
            with torch.no_grad():
                self._step(replica, parameters, x, y, g)

    def _step(self, replica, parameters, x: Tensor, y: Tensor, g: Sequence[Tensor]) -> None:
        if self.rho is not None:
            ascent, scale = self._ascent(g, self.rho)
            torch._foreach_add_(parameters, ascent, alpha=scale)
            with torch.enable_grad():
                g = torch.autograd.grad(F.cross_entropy(replica(x), y), parameters)
            torch._foreach_sub_(parameters, ascent, alpha=scale)
        torch._foreach_add_(parameters, self.direction(parameters, g), alpha=-self.lr)

    def _ascent(self, g: Sequence[Tensor], rho: float) -> tuple[Sequence[Tensor], float]:
        """(tensors, factor) of `rho g / |g|`: a pass less on a CPU, no wait for CUDA."""
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(g)))
        if not norm.is_cuda:
            return g, rho / (float(norm) + EPS)
        torch._foreach_mul_(g, rho / (norm + EPS))
        return g, 1.0

    def direction(self, parameters: list[nn.Parameter], g: Sequence[Tensor]) -> Sequence[Tensor]:
        """What a method makes of the gradient before a step: the same."""
        return g
