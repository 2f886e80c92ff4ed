"""A run means what `module(x)` means: against FedAvg by hand, with autograd on the plain module."""

from __future__ import annotations

import threading
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import fedfast
from fedfast.data import FederatedData


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(12, 4, generator=g, dtype=torch.float64), torch.arange(12) % 3


def simulation(model: nn.Module, rounds: int = 1, **more) -> fedfast.Simulation:
    x, y = batch()
    about = dict(rounds=rounds, participation=1.0, batch_size=None, lr=0.1, dtype=torch.float64)
    clients = FederatedData.from_arrays([x], [y])
    return fedfast.Simulation(model, clients, test=(x, y), **(about | more))


def same_as_by_hand(make) -> fedfast.Simulation:
    """A round of it, which is a step of SGD."""
    sim, module, (x, y) = simulation(make()), make(), batch()
    sim.run(progress=False)
    F.cross_entropy(module.train()(x), y).backward()
    have = sim.state_dict()
    for name, p in module.named_parameters():
        value = p.detach() if p.grad is None else p.detach() - 0.1 * p.grad
        torch.testing.assert_close(have[name], value, msg=name)
    return sim


def replace_forward(m: nn.Sequential) -> None:
    plain = m[0].forward
    m[0].forward = lambda x: 2 * plain(x)


# name -> (what is done to `net()`, what the reason for the module executor names)
CHANGES = {
    "forward": (lambda m: m[0].register_forward_hook(lambda mod, args, out: out * 3), "hook"),
    "pre": (lambda m: m[2].register_forward_pre_hook(lambda mod, x: (x[0] * 2,)), "pre hook"),
    "backward": (
        lambda m: m[2].register_full_backward_hook(lambda mod, gi, go: (gi[0] * 5,)),
        "backward hook",
    ),
    "replaced": (replace_forward, "forward replaced"),
    "gradient": (
        lambda m: m[0].weight.register_hook(lambda g: g * (torch.arange(6)[:, None] % 2)),
        "gradient hook",
    ),
    "weight_norm": (lambda m: nn.utils.weight_norm(m[0]), "hook"),
    "prune": (lambda m: prune.l1_unstructured(m[0], "weight", amount=0.5), "hook"),
}


def changed(name: str) -> nn.Module:
    model = net()
    CHANGES[name][0](model)
    return model


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_in_the_layers_takes_effect(name):
    assert CHANGES[name][1] in same_as_by_hand(lambda: changed(name)).generic_because


class Around(nn.Module):
    """A module around `net()`."""

    def __init__(self):
        super().__init__()
        self.net, self.calls = net(), 0


class Detached(Around):
    def forward(self, x):
        with torch.no_grad():
            h = self.net[1](self.net[0](x))
        return self.net[2](h)


def test_a_detached_layer_does_not_train():
    assert "gradient of net.0" in same_as_by_hand(Detached).generic_because


def test_plain_models_keep_their_program():
    assert same_as_by_hand(net).generic_because == ""


def test_an_overridden_evaluation_is_seen():
    class Twice(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    m = net()
    m[0] = Twice(4, 6).double()
    assert same_as_by_hand(lambda: deepcopy(m)).generic_because


class Counting(Around):
    def forward(self, x):
        self.calls += 1
        return self.net(x)


def test_a_counter_is_named():
    assert "calls" in simulation(Counting()).generic_because
    assert simulation(Counting(), verify=False).generic_because == ""


class Noisy(Around):
    def forward(self, x):
        return F.dropout(self.net(x), 0.5)


@pytest.mark.parametrize("make", [Noisy, net])
def test_evaluation_repeats_and_leaves_the_generator(make):
    model = make()
    before = torch.get_rng_state()
    sim = simulation(model, 2)
    sim.run(progress=False)
    assert sim.evaluate() == sim.evaluate()
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_is_no_difference():
    m = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3))
    assert simulation(m.double()).generic_because == ""


def test_what_cannot_be_copied_is_named():
    m = net()
    m[0].lock = threading.Lock()
    with pytest.raises(ValueError, match=r"model: .*0\.lock"):
        simulation(m)


def test_post_accumulate_hooks_are_refused():
    m = net()
    m[0].weight.register_post_accumulate_grad_hook(lambda p: None)
    with pytest.raises(ValueError, match=r"model: parameter 0\.weight"):
        simulation(m)


def test_threads_that_build_simulations_leave_modules_alone():
    call, get = nn.Module.__call__, nn.Module.__getattr__
    errors: list[BaseException] = []

    def work(run: bool) -> None:
        try:
            for _ in range(6):
                sim = simulation(changed("forward") if run else net(), 2)
                if run:
                    sim.run(progress=False)
        except BaseException as error:  # noqa: BLE001 - reported by the assertion
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i % 2 == 0,)) for i in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors and nn.Module.__call__ is call and nn.Module.__getattr__ is get
