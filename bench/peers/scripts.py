"""The scripts of `baselines.py` and `vmapped.py` under four algorithms.

python -m peers.scripts typical|tuned|vmap FOLDER
"""

import sys
import threading

import torch
from baselines import ClientWork, TunedLoop, TypicalLoop
from vmapped import VmappedLoop

from . import torch_model
from .protocol import Rounds, Task, Unsupported, serve


class TypicalProx(TypicalLoop):
    """The proximal term in the loss, tensor by tensor. Li et al. 2020."""

    mu = 0.0

    def loss(self, model, x, y):
        """Cross-entropy and mu / 2 |v - w|^2."""
        pairs = zip(model.parameters(), self.model.parameters(), strict=True)
        proximal = sum(((p - q.detach()) ** 2).sum() for p, q in pairs)
        return super().loss(model, x, y) + self.mu / 2 * proximal


class Variates:
    """SCAFFOLD's c and c_i, option II, lists of tensors. Karimireddy et al. 2020."""

    def prepare(self, task: Task, parameters) -> None:
        """All of them 0."""
        self.task, zeros = task, [torch.zeros_like(p) for p in parameters]
        self.lock = threading.Lock()
        self.c = zeros
        self.own = [[torch.zeros_like(z) for z in zeros] for _ in range(task.clients)]

    @torch.no_grad()
    def renew(self, work: ClientWork, start, parameters) -> None:
        """c_i and the client's part of the next c."""
        scale = 1.0 / (len(work.sizes) * self.task.lr)
        own = self.own[int(work.rows[0]) // self.task.samples]
        changes = [(p - v) * scale - q for q, p, v in zip(self.c, start, parameters, strict=True)]
        torch._foreach_add_(own, changes)
        with self.lock:
            torch._foreach_add_(self.next_c, changes, alpha=1.0 / self.task.clients)


class TypicalScaffold(Variates, TypicalLoop):
    """The correction added to every gradient."""

    def round(self, cohort):
        self.next_c = [q.clone() for q in self.c]
        super().round(cohort)
        self.c = self.next_c

    def correct(self, model, work):
        own = self.own[int(work.rows[0]) // self.task.samples]
        for p, q, k in zip(model.parameters(), self.c, own, strict=True):
            p.grad.add_(q - k)

    def _train(self, work):
        state = super()._train(work)
        names = [name for name, _ in self.model.named_parameters()]
        self.renew(work, list(self.model.parameters()), [state[name] for name in names])
        return state


class TunedProx(TunedLoop):
    """mu (v - w) added to the gradient by two foreach calls."""

    mu = 0.0

    def direction(self, parameters, g):
        """`g + mu (v - w)`."""
        torch._foreach_add_(g, parameters, alpha=self.mu)
        torch._foreach_sub_(g, self.start, alpha=self.mu)
        return g


class TunedScaffold(Variates, TunedLoop):
    """c - c_i once per client, one foreach call per step; each worker has its own."""

    shift = threading.local()

    def round(self, cohort):
        self.next_c = [q.clone() for q in self.c]
        super().round(cohort)
        self.c = self.next_c

    def direction(self, parameters, g):
        """`g + c - c_i`."""
        torch._foreach_add_(g, self.shift.tensors)
        return g

    def _train(self, replica, parameters, work):
        own = self.own[int(work.rows[0]) // self.task.samples]
        self.shift.tensors = torch._foreach_sub(self.c, own)
        super()._train(replica, parameters, work)
        self.renew(work, self.start, parameters)


LOOPS = {
    ("typical", "fedprox"): TypicalProx,
    ("typical", "scaffold"): TypicalScaffold,
    ("tuned", "fedprox"): TunedProx,
    ("tuned", "scaffold"): TunedScaffold,
}


class ScriptRounds(Rounds):
    """One of the loops; all rounds' rows are listed beforehand, as in bench_round."""

    def __init__(self, task: Task, loop) -> None:
        self.task, self.loop = task, loop
        self.plans = [
            [self.work(t, j) for j in range(task.cohort)] for t in range(len(task.cohorts))
        ]

    def work(self, t: int, j: int) -> ClientWork:
        """The cohort's client j in round t."""
        rows = torch.from_numpy(self.task.rows(t, j).ravel())
        sizes = [len(batch) for batch in rows.split(self.task.batch_size)]
        return ClientWork(1.0 / self.task.cohort, rows, sizes)

    def round(self, t):
        for work in self.plans[t]:
            self.task.count(1, len(work.rows), len(work.sizes))
        self.loop.round(self.plans[t])

    def weights(self):
        return [value.detach().numpy().copy() for value in self.loop.state_dict().values()]


def loop(kind: str, task: Task, algorithm: str, setting: str):
    """The loop of that kind, ready to train."""
    numbers = [int(word) for word in setting.split() if word.isdigit()]
    samples, net = torch_model.Samples(task), torch_model.module(task)
    given = (net, samples.x, samples.y, task.lr)
    rho = task.rho if algorithm == "fedsam" else None
    if kind == "vmap":
        if algorithm != "fedavg":
            raise Unsupported(f"no {algorithm}")
        return VmappedLoop(*given, chunk=numbers[0] if numbers else None, compiled=True)
    plain, workers = (TypicalLoop, ()) if kind == "typical" else (TunedLoop, numbers)
    made = LOOPS.get((kind, algorithm), plain)(*given, rho, *workers)
    made.mu = task.mu
    if isinstance(made, Variates):
        made.prepare(task, net.parameters())
    return made


def main(kind: str, folder: str) -> None:
    """Serve one kind."""

    def start(task: Task, algorithm: str, setting: str) -> Rounds:
        torch_model.use("2 threads" if kind == "vmap" else setting)
        return ScriptRounds(task, loop(kind, task, algorithm, setting))

    serve(Task(folder), start, ("torch",))


if __name__ == "__main__":
    main(*sys.argv[1:])
