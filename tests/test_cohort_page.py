"""The Python of docs/cohort.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from federation import arrays, fedavg, federation, flat, mlp

import fedfast

SIZES = [9, 14, 5, 7, 8, 6, 9, 5, 9, 5, 7]
PAGE = Path(__file__).parent.parent / "docs" / "cohort.md"
LOOP, HANDED, STEPPED = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def scope(**more):
    return dict(
        fedfast=fedfast, torch=torch, model=mlp(), data=federation(SIZES),
        rng=np.random.default_rng(0), rounds=3, selected=[2, 0], **more,
    )  # fmt: skip


def test_the_loop_is_fedavg_in_plain_torch():
    found = scope()
    exec(LOOP, found)
    rng, cohorts = np.random.default_rng(0), []
    for _ in range(3):
        cohorts.append(rng.choice(len(SIZES), 10, replace=False).tolist())
    work = [[[torch.arange(SIZES[i])] for i in cohort] for cohort in cohorts]  # one batch each
    xs, ys = arrays(SIZES)
    script = fedavg(mlp(), (xs, ys), cohorts, work, lambda *at: descend(*at[:3]))
    assert (flat(found["state"]) - flat(script.state_dict())).abs().max() < 1e-5


def descend(net, x, y):
    loss = torch.nn.functional.cross_entropy(net(x), y)
    for p, g in zip(
        net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True
    ):
        p.data -= 0.1 * g


def test_clients_with_samples_and_models_of_their_own():
    xs, ys = arrays(SIZES)
    clients = [
        SimpleNamespace(number=i, x=xs[i], y=ys[i], lr=0.1 + i, epochs=1 + i, model=mlp(seed=i))
        for i in (3, 1)
    ]
    found = scope() | dict(selected=clients, state=mlp(seed=9).state_dict())
    exec(HANDED, found)
    net = mlp(seed=9)
    for client in clients:
        net.load_state_dict(mlp(seed=9).state_dict())
        for _ in range(client.epochs):
            loss = torch.nn.functional.cross_entropy(net(client.x), client.y)
            grads = torch.autograd.grad(loss, list(net.parameters()))
            for p, g in zip(net.parameters(), grads, strict=True):
                p.data -= client.lr * g
        assert (flat(client.model.state_dict()) - flat(net.state_dict())).abs().max() < 1e-4


def test_scaffold_moves_its_server_state():
    found = scope()
    exec(STEPPED, found)
    assert found["cohort"].server_state()["c"].any()
