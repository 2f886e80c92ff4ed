# %% [markdown]
# # From FL-Simulator
#
# FL-Simulator's `train.py` has its settings as flags; `docs/from-fl-simulator.md` maps each of
# them onto ours. Here the mapping is used: `ours` turns such a command line into settings and an
# algorithm.

# %%
import argparse

import fedfast
from fedfast import algorithms

NUMBERS = {
    "split-coef": 0.1, "active-ratio": 0.05, "total-client": 200, "comm-rounds": 1000,
    "local-epochs": 5, "batchsize": 25, "weight-decay": 0.001, "local-learning-rate": 0.1,
    "global-learning-rate": 1.0, "lr-decay": 0.998, "seed": 20, "alpha": 0.1,
    "lamb": 0.1, "rho": 0.1,
}  # fmt: skip


def ours(command: str):
    """(partition, settings, algorithm) for flags of FL-Simulator, whose defaults fill the rest."""
    parser = argparse.ArgumentParser()
    for name, default in NUMBERS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--non-iid", action="store_true")
    parser.add_argument("--split-rule", default="Dirichlet")
    parser.add_argument("--method", default="FedAvg")
    a = parser.parse_args(command.split())

    common = dict(clients=a.total_client, seed=a.seed)
    if not a.non_iid:
        partition = dict(name="iid", **common)
    elif a.split_rule == "Dirichlet":  # images of a class that has run out are dealt again
        partition = dict(name="dirichlet-equal", alpha=a.split_coef, refill=True, **common)
    else:
        of_each = int(a.split_coef)
        partition = dict(name="pathological", classes_per_client=of_each, refill=True, **common)
    settings = dict(
        rounds=a.comm_rounds, participation=a.active_ratio, local_epochs=a.local_epochs,
        batch_size=a.batchsize, weight_decay=a.weight_decay, lr=a.local_learning_rate,
        server_lr=a.global_learning_rate, lr_decay=a.lr_decay, seed=a.seed,
        sampling="bernoulli", aggregation="uniform", clip_norm=10.0,
    )  # fmt: skip
    algorithm = {
        "FedAvg": lambda: algorithms.FedAvg(),
        "FedCM": lambda: algorithms.FedCM(alpha=a.alpha),
        "FedDyn": lambda: algorithms.FedDyn(lam=a.lamb),
        "FedProx": lambda: algorithms.FedProx(mu=a.lamb),
        "FedSAM": lambda: algorithms.FedSAM(rho=a.rho, eps=1e-7),
        "FedSpeed": lambda: algorithms.FedSpeed(rho=a.rho, lam=a.lamb, variant="official"),
        "MoFedSAM": lambda: algorithms.MoFedSAM(rho=a.rho, alpha=a.alpha, eps=1e-7),
        "SCAFFOLD": lambda: algorithms.SCAFFOLD(),
    }[a.method]()
    return partition, settings, algorithm


# %% [markdown]
# FedAvg and FedSpeed on small images of digits, ten clients of two classes each. Their summary
# reports the *best* accuracy over all rounds; ours has the last one beside it.

# %%
data = fedfast.data.load("digits")
model = fedfast.models.build("mlp", input_shape=(1, 8, 8), classes=10, hidden=[32])
flags = "--non-iid --split-rule Pathological --split-coef 2 --total-client 10 --active-ratio 0.5"
best = {}
for method in ("FedAvg", "FedSpeed"):
    partition, settings, algorithm = ours(f"{flags} --comm-rounds 15 --method {method}")
    clients = fedfast.data.partition(samples=data.train, **partition)
    sim = fedfast.Simulation(model, clients, algorithm, test=data.test, **settings)
    history = sim.run(progress=False)
    best[method] = history.best().accuracy
    print(f"{method:9} best {best[method]:.1%}, last {history.last().accuracy:.1%}")
assert min(best.values()) > 0.5
