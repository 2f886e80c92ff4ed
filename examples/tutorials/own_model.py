# %% [markdown]
# # Your own model
#
# Any `nn.Module` from inputs `[n, ...]` to outputs `[n, classes]` can be trained. Models of known
# layers become a layer program, which trains many clients at once; others run by the module.

# %%
import torch
from torch import nn

import fedfast


class Net(nn.Module):
    """A plain convolutional network.

    width  channels of the first layer
    depth  hidden layers after the convolutions
    """

    def __init__(self, input_shape, classes: int, width: int = 8, depth: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(input_shape[0], width, 3, padding=1)
        sides = (input_shape[1] // 2) * (input_shape[2] // 2)
        sizes = [width * sides, *[32] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv(x).relu(), 2).flatten(1)
        for layer in self.hidden:
            x = layer(x).relu()
        return self.head(x)


# %% [markdown]
# `input_shape` and `classes` come from the data, for a model that has parameters of these names;
# the others are its options. In a file, and what `fedfast doctor` says of it:
#
#     model: {name: "own_model:Net", width: 16}
#
#     fedfast doctor own_model:Net --input_shape 1 8 8 --width 16

# %%
data = fedfast.data.load("digits")
clients = fedfast.data.dirichlet(data.train, clients=20, alpha=1.0, seed=0)
net = fedfast.models.build(f"{__name__}:Net", input_shape=(1, 8, 8), classes=10, width=6)
settings = dict(test=data.test, rounds=10, participation=0.5, local_epochs=3, batch_size=10, lr=0.2)
sim = fedfast.Simulation(net, clients, "fedsam", **settings)
accuracy = sim.run(progress=False).last().accuracy
print(f"plain net {accuracy:.1%}, by {sim.generic_because or 'a layer program'}")

# %% [markdown]
# **A loss of your own** is a function or a module (outputs, targets) -> mean over the batch. In a
# file:
#
#     loss: {name: "own_model:focal", gamma: 1.0}
#
# Its gradient is autograd's, so the model runs by its module: the same results, slower.


# %%
def focal(outputs, targets, gamma: float = 2.0):
    """Cross-entropy in which samples that are right already count less, by (1 - p)^gamma."""
    log_p = outputs.log_softmax(dim=1).gather(1, targets[:, None])[:, 0]
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


focused = fedfast.Simulation(net, clients, "fedavg", loss=focal, **{**settings, "rounds": 3})
last = focused.run(progress=False).last().accuracy
print(f"focal loss {last:.1%}, by the module: {focused.generic_because}")

# %% [markdown]
# The result goes home into your own module.

# %%
net.load_state_dict(sim.state_dict())
with torch.no_grad():
    again = (net(data.test.x).argmax(dim=1) == data.test.y).double().mean().item()
assert not sim.generic_because and abs(again - accuracy) < 1e-9 and accuracy > 0.5
