"""Modules that tracing reads wrongly or that resist it, against a FedAvg script in plain torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from federation import fedavg
from torch import nn
from torch.nn.utils import parametrizations

import fedfast
from fedfast.data import FederatedData

SIZES = [6, 4, 9]
COHORTS = [[0, 1, 2], [2, 0]]
BATCHES = [
    [[[0, 1, 2], [3, 4, 5]], [[0, 2], [1, 3]], [[8, 7, 6], [5, 4, 3], [1, 2]]],
    [[[1, 2], [3, 4]], [[0, 5, 1]]],
]


def data():
    g = torch.Generator().manual_seed(5)
    xs = [torch.randn(n, 4, generator=g, dtype=torch.float64) for n in SIZES]
    return xs, [torch.arange(n) % 3 for n in SIZES]


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


class Around(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.n, self.f = net(), forward

    def forward(self, x):
        return self.f(self.n, x)


def aliased(n, x):
    h = n(x)
    k = h
    h += k  # torch.fx makes a plain addition of it, and k keeps its old value
    return h + k


def inner_gradient(n, x):
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        out = n(x)
        return out + torch.autograd.grad(out.sum(), x, create_graph=True)[0][:, :3]


def hooked(kind, hook, layer=0, **how):
    m = net()
    getattr(m[layer], kind)(hook, **how)
    return m


def parametrized(kind):
    m = net()
    kind(m[0])
    return m


CASES = dict(
    aliased=lambda: Around(aliased),
    input_written=lambda: Around(lambda n, x: n(x.mul_(2))),
    inner_gradient=lambda: Around(inner_gradient),
    branch=lambda: Around(lambda n, x: n(x) * (2 if x.mean() > 0 else 1)),
    always_call=lambda: hooked(
        "register_forward_hook", lambda m, a, out: out * 3, always_call=True
    ),
    with_kwargs=lambda: hooked(
        "register_forward_hook", lambda m, a, k, out: out * 3, with_kwargs=True
    ),
    backward_pre=lambda: hooked("register_full_backward_pre_hook", lambda m, g: (g[0] * 2,), 2),
    in_evaluation=lambda: hooked(
        "register_forward_hook", lambda m, a, out: out if m.training else out * 3
    ),
    weight_norm=lambda: parametrized(parametrizations.weight_norm),
    orthogonal=lambda: parametrized(parametrizations.orthogonal),
    spectral_norm=lambda: parametrized(nn.utils.spectral_norm),
)


def script(module):
    """Two rounds of FedAvg."""
    return fedavg(module, data(), COHORTS, BATCHES)


def simulate(module, **more):
    xs, ys = data()
    about = dict(lr=0.2, schedule=fedfast.Schedule.explicit(COHORTS, BATCHES), dtype=torch.float64)
    clients = FederatedData.from_arrays(xs, ys)
    return fedfast.Simulation(module, clients, test=(xs[0], ys[0]), device="cpu", **(about | more))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("loss", ["cross_entropy", "callable"])
@pytest.mark.parametrize("case", CASES)
def test_hostile_modules_train_and_are_evaluated_as_a_script_does(case, loss):
    own = loss if loss == "cross_entropy" else (lambda z, y: F.cross_entropy(z, y))
    sim, module = simulate(CASES[case](), loss=own), script(CASES[case]())
    sim.run(progress=False)
    x, y = (part[0].clone() for part in data())
    assert sim.generic_because
    for name, value in sim.state_dict().items():
        torch.testing.assert_close(value, module.state_dict()[name], rtol=0, atol=1e-10, msg=name)
    with torch.no_grad():
        assert abs(sim.evaluate()[1] - float(F.cross_entropy(module.eval()(x), y))) < 1e-10
    assert sim.evaluate() == sim.evaluate()
    CASES[case]().load_state_dict(sim.state_dict(), strict=True)


MASK = torch.arange(6)[:, None] % 2


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsam", "scaffold"])
def test_what_a_gradient_hook_masks_stays(algorithm):
    m = net()
    m[0].weight.register_hook(lambda g: g * MASK)
    sim = simulate(m, algorithm=algorithm)
    sim.run(progress=False)
    moved = (sim.state_dict()["0.weight"] - m[0].weight.detach()).abs().amax(1)
    assert not moved[::2].any() and moved[1::2].all()


def test_global_hooks_are_honoured_and_named():
    hook = nn.modules.module.register_module_forward_hook(
        lambda m, a, out: out * 1.5 if isinstance(m, nn.Linear) else out
    )
    try:
        sim, module = simulate(net()), script(net())
        sim.run(progress=False)
    finally:
        hook.remove()
    assert "global module hook" in sim.generic_because
    torch.testing.assert_close(sim.state_dict(), module.state_dict(), rtol=0, atol=1e-10)
