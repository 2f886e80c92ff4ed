# %% [markdown]
# # Your own algorithm
#
# An algorithm is a local optimizer, a drift correction and a server rule; a new one is usually
# one new part. Here: FedAvg whose clients are pulled to their own last models,
#
#     client   d = g + mu (v - u_i);   u_i <- v_K after training       u_i = w the first time
#     server   as FedAvg
#
# where `g` is the gradient of a step, `v` the client's moving model, `w` the model it was sent.

# %%
from dataclasses import dataclass

import fedfast
from fedfast.algorithms import SAM, Algorithm, Direction, Drift

# %% [markdown]
# The part names the state it keeps, one row per client here, and says what a step descends along.
# The engine allocates, gathers and saves the rows; `at.own["u_i"]` is `[K, size]` for the `K`
# clients that train together. No loop over clients or parameters is written, and none is run in
# Python.


# %%
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


# %% [markdown]
# A dataclass of the parameters makes it an algorithm with a name. In a file it is
#
#     algorithm: {name: "own_algorithm:Mine", mu: 0.2, rho: 0.05}
#
# where `own_algorithm.py` is in the directory in which `fedfast run` is called. Types are checked
# before data are loaded, and the docstring is the help of `--algorithm.mu`.


# %%
@dataclass(frozen=True)
class Mine(Algorithm):
    """FedSAM with a memory.

    mu   pull to the client's own last model
    rho  radius of SAM
    """

    mu: float = 0.1
    rho: float = 0.05

    def __post_init__(self):
        self.compose(local=SAM(rho=self.rho), drift=Memory(mu=self.mu))


# %%
if __name__ == "__main__":
    data = fedfast.data.load("digits")
    clients = fedfast.data.dirichlet(data.train, clients=20, alpha=0.3, seed=0)
    model = fedfast.models.build("mlp", input_shape=(1, 8, 8), classes=10)
    settings = dict(rounds=15, participation=0.5, batch_size=10, lr=0.1)
    best = {}
    for label, algorithm in {"fedavg": "fedavg", "mine": Mine(mu=0.2)}.items():
        sim = fedfast.Simulation(model, clients, algorithm, test=data.test, **settings)
        best[label] = sim.run(progress=False).best().accuracy
        print(f"{label:8} {best[label]:.1%}")
    assert best["mine"] > 0.5, "both learn; which is better depends on mu, rho and the partition"
