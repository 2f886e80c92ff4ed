"""A server loop of one's own around `fedfast.Cohort`.

    before   the loop that scripts have, `for client in selected: client.train()`: a copy of the
             model per client, an optimizer
    after    the same in one call, which trains the selected clients at once

Both average by samples and keep a server momentum, on the digits of scikit-learn, 50 clients.
Local steps take all of a client's samples, so that both see the same batches and end in the same
model.

Run it: python examples/own_server_loop.py
"""

import time
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F

import fedfast

ROUNDS, SELECTED, EPOCHS, LR, BETA = 20, 20, 5, 0.1, 0.9


def select(t, clients):
    """The clients of round `t`."""
    return np.random.default_rng(t).choice(clients, SELECTED, replace=False)


def before(model, data):
    """Client after client."""
    state, velocity = deepcopy(model.state_dict()), {}
    for t in range(ROUNDS):
        selected = select(t, data.num_clients)
        samples = torch.from_numpy(data.sizes[selected])
        trained = []
        for i in selected:
            local, own = deepcopy(model), data.client(i)
            local.load_state_dict(state)
            optimizer = torch.optim.SGD(local.parameters(), lr=LR)
            for _ in range(EPOCHS):
                optimizer.zero_grad()
                F.cross_entropy(local(own.x), own.y).backward()
                optimizer.step()
            trained.append(local.state_dict())
        share = samples / samples.sum()
        for name in state:
            mean = torch.tensordot(share, torch.stack([w[name] for w in trained]), 1)
            velocity[name] = BETA * velocity.get(name, 0) + mean - state[name]
            state[name] = state[name] + velocity[name]
    return state


def after(model, data):
    """All selected clients in one call."""
    cohort = fedfast.Cohort(model, data, batch_size=None, local_epochs=EPOCHS, lr=LR)
    state, velocity = model.state_dict(), {}
    for t in range(ROUNDS):
        update = cohort.train(select(t, data.num_clients), state)
        share = update.samples / update.samples.sum()
        for name, trained in update.views().items():  # [clients, *shape]
            mean = torch.tensordot(share, trained, 1)
            velocity[name] = BETA * velocity.get(name, 0) + mean - state[name]
            state[name] = state[name] + velocity[name]
    return state


def main():
    """Both, their seconds, and how far apart they end."""
    digits = fedfast.data.load("digits")
    data = fedfast.data.dirichlet(digits.train, clients=50, alpha=0.3, seed=0)
    model = fedfast.models.build("mlp", input_shape=(1, 8, 8), classes=10)
    found = {}
    for loop in (before, after):
        begin = time.perf_counter()
        found[loop] = loop(model, data)
        print(f"{loop.__name__:7} {time.perf_counter() - begin:6.2f} s")
    apart = max(float((w - found[after][n]).abs().max()) for n, w in found[before].items())
    print(f"largest difference of a weight: {apart:.1e}")
    return apart


if __name__ == "__main__":
    main()
