"""What clients upload, and how they are weighed, by hooks of one's own.

    TopK     sends the largest entries of update + memory; the memory keeps the rest
             (error feedback: Karimireddy et al., ICML 2019)
    Private  clips the update to a norm and adds Gaussian noise
             (McMahan et al., "Learning Differentially Private Recurrent Language Models", 2018)
    QFair    q-FFL: weights by the clients' losses on the model they were sent
             (Li et al., "Fair Resource Allocation in Federated Learning", ICLR 2020, algorithm 2)

Run it: python examples/fair_and_private.py
"""

from dataclasses import dataclass

from fedfast.kernels import norms, stats

import fedfast
from fedfast.algorithms import Algorithm, Drift, ServerRule


@dataclass(frozen=True)
class TopK(Drift):
    """`u = D + e_i; send top_k(u); e_i <- u - top_k(u)`."""

    share: float = 0.1
    name = "top-k"

    def client_rows(self):
        return {"e_i": "zeros"}

    def upload(self, at):
        update = at.w - at.start + at.own["e_i"]
        k = max(1, int(self.share * at.layout.parameters))
        largest = update.abs().topk(k, dim=1).indices
        sent = update.new_zeros(update.shape).scatter_(1, largest, update.gather(1, largest))
        at.own["e_i"] = update - sent
        at.w.copy_(at.start + sent)


@dataclass(frozen=True)
class Private(Drift):
    """`D <- D min(1, S / |D|) + N(0, (z S)^2)`."""

    clip: float = 1.0  # S
    noise: float = 0.01  # z
    name = "private"

    def upload(self, at):
        update = at.w - at.start
        # fedfast's norms: torch's last bits depend on how many clients stand in a tensor
        length = norms(stats(update))[:, None]
        shrink = (self.clip / length).clamp(max=1.0).to(update)
        at.w.copy_(at.start + update * shrink + self.noise * self.clip * at.normal())


@dataclass(frozen=True)
class QFair(ServerRule):
    """`w <- w + sum_k F_k^q L D_k / sum_k (q F_k^(q-1) |L D_k|^2 + L F_k^q)`."""

    q: float = 1.0
    L: float = 10.0  # 1 / lr
    name = "q-fair"
    start_losses = True

    def reweigh(self, models, start, cohort, layout, backend):
        loss = cohort.start_loss + 1e-10
        square = (models.double() - start.double()).square().sum(dim=1) * self.L**2
        h = self.q * loss ** (self.q - 1) * square + self.L * loss**self.q
        return loss**self.q * self.L / h.sum(), {}


if __name__ == "__main__":
    data = fedfast.data.load("digits")
    clients = fedfast.data.dirichlet(data.train, clients=50, alpha=0.3, seed=0)
    model = fedfast.models.build("mlp", input_shape=(1, 8, 8), classes=10)
    for algorithm in (
        Algorithm(drift=TopK(share=0.1)),
        Algorithm(drift=Private(clip=1.0, noise=0.001)),
        Algorithm(server=QFair(q=1.0)),
    ):
        sim = fedfast.Simulation(model, clients, algorithm, test=data.test, rounds=20)
        name = algorithm.drift.name + " / " + algorithm.server.name
        print(f"{name}: accuracy {sim.run(progress=False).last().accuracy:.3f}")
