"""Verification of gradients that are zero in theory: rounding is no difference, a fault is one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from federation import arrays
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from test_frozen import NAMED, SIZES, ConvNet, made
from torch import Tensor, nn

import fedfast
from fedfast.programs.executor import ProgramExecutor

FAULT = 1e-3  # of the norm of the gradient


def normed(norm):
    layers = nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)
    return nn.Sequential(*layers)


ZERO = {  # model, the parameter whose gradient is zero
    "one of eight": (ConvNet, "a.bias"),
    "before a batch norm": (lambda: normed(nn.BatchNorm2d(4)), "0.bias"),
    "before a group norm, a channel in each group": (lambda: normed(nn.GroupNorm(4, 4)), "0.bias"),
}


def learns_only(make, names, dtype):
    module = made(make).to(dtype)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in names)
    return module


def reason(module: nn.Module, scale: float = 1.0) -> str:
    """Why the module executor trains it."""
    xs, ys = arrays(SIZES, shape=(1, 6, 6))
    clients = fedfast.FederatedData.from_arrays([x * scale for x in xs], ys)
    dtype = next(module.parameters()).dtype
    same = dict(rounds=1, participation=1.0, local_epochs=1, batch_size=3, lr=0.2, dtype=dtype)
    return fedfast.Simulation(module, clients, "fedavg", **same).generic_because


def planted(patch: pytest.MonkeyPatch, name: str, size: float) -> None:
    """Programs add that much, by its norm, to the gradient of a parameter."""
    real = ProgramExecutor.gradients

    def wrong(self, step, tensors, batch):
        real(self, step, tensors, batch)
        for row in tensors.out:
            view: Tensor = self.layout.views(row, trained_only=True)[name]
            view += size / view.numel() ** 0.5

    patch.setattr(ProgramExecutor, "gradients", wrong)


def norm_of_all(make) -> float:
    """The norm of the gradient by all parameters, over all samples, as torch has it."""
    module = made(make)
    xs, ys = arrays(SIZES, shape=(1, 6, 6))
    F.cross_entropy(module(torch.cat(xs).double()), torch.cat(ys)).backward()
    return float(torch.stack([p.grad.norm() for p in module.parameters()]).norm())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ZERO)
def test_rounding_alone_is_no_difference(name, dtype, scale):
    make, zero = ZERO[name]
    assert reason(learns_only(make, {zero}, dtype), scale) == ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ZERO)
def test_a_fault_beside_nothing_is_found(name, dtype, monkeypatch):
    make, zero = ZERO[name]
    planted(monkeypatch, zero, FAULT * norm_of_all(make))
    assert f"the gradient of {zero} differs" in reason(learns_only(make, {zero}, dtype))


@given(st.sets(st.sampled_from(NAMED), min_size=1), st.data(), st.sampled_from([1, 30, 1e3]))
@hypothesis(max_examples=10, deadline=None)
def test_a_fault_in_whatever_is_trained_is_found(learns, data, times):
    name = data.draw(st.sampled_from(sorted(learns)))
    with pytest.MonkeyPatch.context() as patch:
        planted(patch, name, times * FAULT * norm_of_all(ConvNet))
        assert f"the gradient of {name} differs" in reason(
            learns_only(ConvNet, learns, torch.float64)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["head.bias", "norm.weight", "c.bias"])
def test_a_fault_of_a_thousandth_of_what_alone_is_trained_is_found(name, dtype, monkeypatch):
    """The gradient by all parameters, which the floor is a part of, is larger."""
    module = made(ConvNet)
    xs, ys = arrays(SIZES, shape=(1, 6, 6))
    F.cross_entropy(module(torch.cat(xs).double()), torch.cat(ys)).backward()
    planted(monkeypatch, name, FAULT * float(module.get_parameter(name).grad.norm()))
    assert f"the gradient of {name} differs" in reason(learns_only(ConvNet, {name}, dtype))
