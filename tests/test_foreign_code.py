"""States of runs whose modules and losses have the same shapes and names, and do something else."""

from __future__ import annotations

import functools

import pytest
import torch
from interrupts import differences, everything
from test_checkpoint import mlp, simulation
from torch import nn
from torch.nn import functional as F

NET = """
def act(x): return torch.{act}(x)
class Net(nn.Module):
    scale = {scale}
    def __init__(self, hidden):
        super().__init__()
        self.body, self._hidden = nn.Linear(8, 4), hidden
    @property
    def width(self): return {width}
    @staticmethod
    def static(x): return x * {static}
    def forward(self, x):
        return self.static(act(self.body(x))) * self.scale * self.width * self._hidden
"""
LOSS = """
W = torch.tensor([1.0, 1.0, {weight}, 1.0])
def inner(z, y): return F.cross_entropy(z, y, W) * {factor}
def loss(z, y): return inner(z, y)
"""


def written(text, **values):
    """What a user's file defines."""
    names = {"torch": torch, "nn": nn, "F": F, "__name__": "users"}
    exec(text.format(**values), names)
    return names


def net(hidden=1.0, **change):
    torch.manual_seed(0)
    held = dict(act="tanh", scale=1.0, width=1.0, static=1.0) | change
    return dict(model=written(NET, **held)["Net"](hidden))


def loss(**change):
    return dict(loss=written(LOSS, **(dict(weight=1.0, factor=1.0) | change))["loss"])


def attention(heads):
    torch.manual_seed(0)
    parts = nn.Unflatten(1, (1, 8)), nn.TransformerEncoderLayer(8, heads, 8, 0.0), nn.Flatten()
    return dict(model=nn.Sequential(*parts, nn.Linear(8, 4)))


def hooked(factor):
    model = mlp()
    model[1].register_forward_hook(lambda module, args, out: out * factor)
    return dict(model=model)


PAIRS = {
    "class attribute": (net(), net(scale=2.0)),
    "private attribute": (net(), net(hidden=2.0)),
    "property": (net(), net(width=2.0)),
    "static method": (net(), net(static=2.0)),
    "helper": (net(), net(act="sin")),
    "global weights": (loss(), loss(weight=2.0)),
    "inner loss": (loss(), loss(factor=2.0)),
    "heads": (attention(2), attention(4)),
    "hook": (hooked(1.0), hooked(2.0)),
    "partial": (
        dict(loss=functools.partial(F.cross_entropy, label_smoothing=0.1)),
        dict(loss=functools.partial(F.cross_entropy, label_smoothing=0.2)),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_shapes_with_another_meaning_are_refused(name, tmp_path):
    ours, others = PAIRS[name]
    path = tmp_path / "state.pt"
    simulation(**others).save(path)
    sim = simulation(**ours)
    next(iter(sim))
    before = everything(sim)
    with pytest.raises(ValueError, match=r"state\.pt.*(model|loss)"):
        sim.load(path)
    assert not differences(everything(sim), before)
    sim.save(tmp_path / "own.pt")
    simulation(**ours).load(tmp_path / "own.pt")


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


def test_functions_that_call_each_other_have_an_end():
    from fedfast.checkpoint.describe import describe

    assert describe(even) == describe(even) != describe(odd)
