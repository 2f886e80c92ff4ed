# %% [markdown]
# # Your own data
#
# Anything that is inputs and labels can be dealt to clients: tensors, arrays, a torch `Dataset`.
# Here the data are points of two noisy rings in the plane, which no straight line separates.

# %%
import torch

import fedfast


def rings(count: int = 600, noise: float = 0.1, seed: int = 0):
    """Points of two rings, 9 of 10 for training.

    count  how many points
    noise  standard deviation of a point's distance from its ring
    """
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 2
    angle = 2 * torch.pi * torch.rand(count, generator=rng)
    radius = 1.0 + y + noise * torch.randn(count, generator=rng)
    x = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    cut = count * 9 // 10
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


# %% [markdown]
# **By its name.** A reader returns `(x, y)`, a `Dataset`, a pair (train, test) of such, a mapping
# `{train: .., test: .., classes: ..}` or `fedfast.data.Data`. In a file it is
#
#     data: {name: "own_data:rings", noise: 0.2}
#
# and `--data.noise 0.3` is a flag, its text in `--help` the line of the docstring above.

# %%
data = fedfast.data.load(f"{__name__}:rings", noise=0.15)
print(data.train, data.classes, "classes")

# %% [markdown]
# **Dealt to clients** by any partition, or by index lists: here each client sees a sector of the
# plane.

# %%
angle = torch.atan2(data.train.x[:, 1], data.train.x[:, 0])
sectors = angle.argsort().chunk(6)
clients = fedfast.FederatedData.from_index(data.train, list(sectors))
print(fedfast.data.describe(clients))

# %% [markdown]
# **Already apart**, one array per hospital or phone, data need no partition. Every client may
# have test samples of its own, on which the global model is then tested too.

# %%
apart = fedfast.FederatedData.from_arrays(
    [data.train.x[rows] for rows in sectors], [data.train.y[rows] for rows in sectors]
)
apart = fedfast.data.local_split(apart, 0.2, seed=0)

# %% [markdown]
# Training: the model only has to take what the data hold.

# %%
model = fedfast.models.build("mlp", input_shape=(2,), classes=data.classes, hidden=[16])
settings = dict(rounds=30, participation=1.0, local_epochs=5, batch_size=20, lr=0.3)
dealt = fedfast.Simulation(model, clients, "fedsam", test=data.test, **settings)
found = dealt.run(progress=False).last()
print(f"global test set {found.accuracy:.1%}")

own = fedfast.Simulation(model, apart, "fedsam", test=data.test, **settings)
each = own.run(progress=False).last()
print(f"clients' own test samples {each.local_accuracy:.1%}")
assert found.accuracy > 0.9 and each.local_accuracy > 0.9
