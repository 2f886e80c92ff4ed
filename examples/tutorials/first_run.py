# %% [markdown]
# # The first run
#
# Fifty clients share 1,437 images of handwritten digits. Most of them have seen a few of the ten
# classes only, which is what makes federated learning hard: the model that suits one client's
# classes is wrong for another's. We train the same network with FedAvg and with FedSAM, whose
# clients look for flat minima, and compare.
#
# Everything here runs on a laptop's CPU in a few seconds, and nothing is downloaded.

# %%
import fedfast

data = fedfast.data.load("digits")
clients = fedfast.data.dirichlet(data.train, clients=50, alpha=0.3, seed=0)
print(fedfast.data.describe(clients))

# %% [markdown]
# `alpha` is the concentration of the Dirichlet distribution: the smaller, the fewer classes a
# client has. *Effective classes* says how many classes of equal size would be as mixed.
#
# ## A model and the settings of the run
#
# Any classifier that is a `torch.nn.Module` will do; here it is a small network by name.

# %%
model = fedfast.models.build("mlp", input_shape=(1, 8, 8), classes=10, hidden=[64, 64])
settings = dict(
    rounds=30,  # communication rounds
    participation=0.4,  # 20 of the 50 clients train in each
    local_epochs=5,  # passes each of them makes over its own images
    batch_size=10,
    lr=0.2,
    lr_decay=0.99,  # factor on the learning rate after each round
    seed=0,
    threads=1,  # so small a model gains nothing from more
)

# %% [markdown]
# ## Two runs
#
# Both begin with the same weights and see the same clients and batches: all that differs is the
# algorithm. `run` shows a bar, or lines where there is no terminal; its result is a `History`.

# %%
histories = {}
for algorithm in ("fedavg", fedfast.algorithms.FedSAM(rho=0.1)):
    sim = fedfast.Simulation(model, clients, algorithm, test=data.test, **settings)
    histories[sim.algorithm.name] = sim.run()

# %% [markdown]
# ## What came out
#
# A history has a row per round. In a notebook, `histories["fedsam"]` as the last line of a cell
# shows a table and a curve, and `histories["fedsam"].plot()` the figure.

# %%
for name, history in histories.items():
    best = history.best()
    last = history.last()
    print(f"{name}: {last.accuracy:.2%} at the end, {best.accuracy:.2%} in round {best.round}")
histories["fedsam"].plot("first_run.png", label="fedsam")
print("curves: first_run.png")

# %% [markdown]
# The same comparison without a line of Python is `fedfast run quickstart`: it reads the settings
# from a file, and leaves a folder with the model, the curves and a row per round.
