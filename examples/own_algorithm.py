"""An algorithm of one's own: FedAvg whose clients are pulled to their own last models.

    client   d = g + mu (v - u_i);   u_i <- v_K after training         u_i = w the first time
    server   as FedAvg

Run it: python examples/own_algorithm.py
"""

from dataclasses import dataclass

import fedfast
from fedfast.algorithms import Algorithm, Direction, Drift


@dataclass(frozen=True)
class Memory(Drift):
    """`mu (v - u_i)`, u_i the client's own model of the last round it took part in."""

    mu: float = 0.1
    name = "memory"

    def client_rows(self):
        return {"u_i": "start"}

    def correct(self, at, terms):
        return Direction(terms, w_ref=at.own["u_i"], lam=self.mu)

    def finish(self, at):
        at.own["u_i"].copy_(at.w)
        return {}


if __name__ == "__main__":
    data = fedfast.data.load("digits")
    clients = fedfast.data.dirichlet(data.train, clients=50, alpha=0.3, seed=0)
    model = fedfast.models.build("mlp", input_shape=(1, 8, 8), classes=10)
    algorithm = Algorithm(local=fedfast.SAM(rho=0.05), drift=Memory(mu=0.1))
    sim = fedfast.Simulation(model, clients, algorithm, test=data.test, rounds=20)
    print(f"accuracy {sim.run().last().accuracy:.3f}")
