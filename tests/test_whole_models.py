"""Whole models trained by `Simulation` as layer programs against plain PyTorch scripts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dropout_reference import Masked, mask
from federation import fedavg, flat, sam_gradient, trained
from torch import nn

import fedfast
from fedfast import random
from fedfast.algorithms import FedAvg, FedSAM
from fedfast.models import build

LR = 0.05
# Clients of 5 and 3 samples, batches of 3: the second has fewer steps, the first a short one.
RAGGED = [[[0, 3, 2], [4, 1]], [[1, 0, 2]]]
# Batch statistics of fewer samples would magnify rounding beyond any comparison.
WHOLE = [[[0, 3, 2, 5], [4, 1, 6, 7]]]


pytestmark = pytest.mark.usefixtures("one_thread")


def simulate(module, data, batches, algorithm, rounds=2, **kwargs):
    """The simulation's state dict after all rounds, in float64."""
    order = fedfast.Schedule.explicit([list(range(len(batches)))] * rounds, [batches] * rounds)
    data = fedfast.FederatedData.from_arrays(*data)
    settings = dict(schedule=order, lr=LR, dtype=torch.float64, threads=1) | kwargs
    sim = trained(module, data, algorithm, **settings)
    assert sim.generic_because == ""
    return sim.state_dict()


def plain(module, data, batches, rho, rounds=2, prepare=lambda module, t, k, s: None):
    """The same in plain PyTorch: local SGD, or SAM with radius rho, averaged by samples."""

    def train(module, x, y, t, k, s):
        prepare(module, t, k, s)
        step(module, x, y, rho)

    everybody = list(range(len(batches)))
    return fedavg(module, data, [everybody] * rounds, [batches] * rounds, train).state_dict()


def step(module, x, y, rho):
    """One local step; the second pass of SAM leaves running statistics alone."""
    loss = F.cross_entropy(module(x), y)
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    if rho:
        kept = {name: b.clone() for name, b in module.named_buffers()}
        gradients = sam_gradient(module, x, y, rho, 1e-12)
        for name, b in module.named_buffers():
            b.copy_(kept[name])
    with torch.no_grad():
        for p, g in zip(module.parameters(), gradients, strict=True):
            p -= LR * g


def images(shape, classes, sizes=(5, 3)):
    generator = torch.Generator().manual_seed(0)
    xs = [torch.randn(n, *shape, generator=generator, dtype=torch.float64) for n in sizes]
    return xs, [torch.randint(classes, (n,), generator=generator) for n in sizes]


MODELS = {
    "resnet18": ((3, 12, 16), {}, WHOLE),
    "mobilenetv2": ((3, 16, 12), {}, WHOLE),
    "mobilenetv2, group": ((3, 9, 8), {"norm": "group", "groups": 4}, WHOLE),
    "lenet": ((3, 16, 16), {"channels": (4, 5), "hidden": (9, 7)}, RAGGED),
}


def floating(state):
    """Without counters of batches, which nobody trains or averages."""
    return flat({name: v for name, v in state.items() if v.is_floating_point()})


@pytest.mark.parametrize("name", MODELS)
def test_convolutional_models(name):
    shape, options, batches = MODELS[name]
    data = images(shape, 3, (5, 3) if batches is RAGGED else (8,))
    make = dict(input_shape=shape, classes=3, seed=1, **options)
    module = build(name.split(",")[0], **make).double()
    ours = floating(simulate(module, data, batches, FedAvg(), rounds=1))
    expected = floating(plain(module, data, batches, 0.0, rounds=1))
    assert (ours - expected).norm() <= 1e-9 * expected.norm()


def log_probabilities():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(9, 5), nn.Flatten(), nn.Linear(20, 3), nn.LogSoftmax(1))


def characters():
    return build("lstm", input_shape=(7,), classes=11, seed=1, embedding=4, hidden=6)


@pytest.mark.parametrize("algorithm", [FedAvg(), FedSAM(rho=0.1)], ids=lambda a: a.name)
@pytest.mark.parametrize(
    ("make", "words", "length", "classes", "tolerance"),
    [(characters, 11, 7, 11, 1e-9), (log_probabilities, 9, 4, 3, 1e-10)],
    ids=["the character model", "log-probabilities"],
)
def test_models_on_tokens(make, words, length, classes, tolerance, algorithm):
    generator, module = torch.Generator().manual_seed(0), make().double()
    xs = [torch.randint(words, (n, length), generator=generator) for n in (5, 3)]
    data = xs, [torch.randint(classes, (n,), generator=generator) for n in (5, 3)]
    ours = floating(simulate(module, data, RAGGED, algorithm))
    expected = floating(plain(module, data, RAGGED, getattr(algorithm, "rho", 0.0)))
    assert (ours - expected).norm() <= tolerance * expected.norm()


def test_tokens_are_integers_from_end_to_end():
    xs, ys = [torch.randint(200, (n, 3)) + 2**53 for n in (4, 2)], [torch.zeros(4).long()] * 2
    data = fedfast.FederatedData.from_arrays(xs, [ys[0], ys[1][:2]], test=[(xs[0], ys[0])] * 2)
    moved = data.to("cpu", torch.float32)
    assert torch.equal(moved.x, torch.cat(xs)) and torch.equal(moved.test[1].x, xs[0])


def test_tokens_are_tested_on():
    module = build("lstm", input_shape=(3,), classes=5, embedding=2, hidden=3)
    data = fedfast.FederatedData.from_arrays([torch.ones(4, 3).long()], [torch.full((4,), 2)])
    test = torch.ones(2, 3).long(), torch.tensor([2, 0])
    sim = trained(module, data, rounds=9, local_epochs=9, lr=1.0, test=test)
    assert sim.history[-1].accuracy == 0.5


def dropping(first, second):
    torch.manual_seed(3)
    layers = nn.Linear(6, 8), nn.Tanh(), first, nn.Linear(8, 9), second, nn.Linear(9, 4)
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("algorithm", [FedAvg(), FedSAM(rho=0.1)], ids=lambda a: a.name)
def test_dropout_is_a_function_of_seed_round_client_step_layer_and_element(algorithm):
    """Both passes of SAM see one mask: the script sets it once a step."""
    seed, width, p = 2**40 + 9, 3, 0.5
    data = images((6,), 4)

    def masks(module, t, k, s):
        key = int(random.keys64(seed, t, k, random.DROPOUT + 256 * s, 1)[0]) >> 1
        for layer, size in enumerate((8, 9)):
            kept = mask(key, layer, width * size, p).view(width, size)
            module[2 + 2 * layer].factors = kept.double() / (1 - p)

    module = dropping(nn.Dropout(p), nn.Dropout(p))
    ours = flat(simulate(module, data, RAGGED, algorithm, seed=seed))
    rho = getattr(algorithm, "rho", 0.0)
    expected = flat(plain(dropping(Masked(), Masked()), data, RAGGED, rho, prepare=masks))
    assert (ours - expected).norm() <= 1e-10 * expected.norm()


@pytest.mark.parametrize("algorithm", [FedAvg(), FedSAM(rho=0.1)], ids=lambda a: a.name)
def test_dropout_does_not_see_chunks_or_threads(algorithm):
    xs, ys = images((6,), 4)
    data, states = ([x.float() for x in xs], ys), []
    for chunk, count in ((1, 1), (2, 1), (2, 2)):
        module = dropping(nn.Dropout(0.5), nn.Dropout(0.5))
        kwargs = dict(dtype=torch.float32, chunk=chunk, threads=count)
        states.append(flat(simulate(module, data, RAGGED, algorithm, **kwargs)))
    assert torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])


def test_evaluation_does_not_drop():
    module = nn.Sequential(nn.Linear(6, 50), nn.Dropout(0.9), nn.Linear(50, 4)).double()
    xs, ys = images((6,), 4)
    data = fedfast.FederatedData.from_arrays(xs, ys)
    test = torch.cat(xs), torch.cat(ys)
    sim = trained(module, data, rounds=1, test=test, dtype=torch.float64)
    module.load_state_dict(sim.state_dict())
    with torch.no_grad():
        loss = F.cross_entropy(module.eval()(test[0]), test[1])
    assert sim.history[-1].loss == pytest.approx(float(loss), rel=1e-10)
    assert np.isfinite(sim.history[-1].train_loss)
