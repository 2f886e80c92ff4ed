"""What users of `Ensemble` get wrong is refused by name, and leaves models and state alone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fedfast
from fedfast.ensemble import Adam

K, B = 3, 6


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def batch(*lead: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*lead, 5, generator=generator)
    return x, torch.randint(3, lead, generator=generator)


def line() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))


def mean_square(outputs: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(outputs, y)


@pytest.mark.parametrize("rows", [K, K + 1])
def test_a_shared_batch_of_numbers_may_have_as_many_samples_as_there_are_models(rows):
    x = torch.linspace(-1, 1, rows)[:, None]
    ensemble = fedfast.Ensemble(line, K, loss=mean_square, dtype=torch.float64)
    losses = ensemble.step(x, x**2)
    for k in range(K):
        torch.manual_seed(k)
        expected = F.mse_loss(line()(x), x**2).item()
        assert float(losses[k]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "y", [torch.ones(B), torch.ones(B, 2), torch.ones(B, 1).to(torch.complex64)]
)
def test_targets_are_not_stretched_or_cut(y):
    x = torch.linspace(-1, 1, B)[:, None]
    ensemble = fedfast.Ensemble(line, B, loss=mean_square)
    ensemble.step(x, x**2)
    before = {name: t.clone() for name, t in ensemble.views().items()}
    with pytest.raises((TypeError, ValueError), match="^y: expected .* as at first; got"):
        ensemble.step(x, y)
    assert all(torch.equal(t, before[name]) for name, t in ensemble.views().items())


@pytest.mark.parametrize(
    "call",
    [
        lambda made, x, y: made.step(x, y[:, :2]),
        lambda made, x, y: made.evaluate(x, y[:, :2]),
        lambda made, x, y: made.logits(x),
    ],
)
def test_a_first_batch_that_does_not_fit_does_not_say_what_samples_are(call):
    x, y = batch(K, B)
    ensemble = fedfast.Ensemble(net, K)
    with pytest.raises(ValueError, match="^[xy]: expected"):
        call(ensemble, x, y)
    assert torch.equal(ensemble.step(x, y), fedfast.Ensemble(net, K).step(x, y))


@pytest.mark.parametrize("first", [True, False])
def test_batch_norm_refuses_a_single_sample_as_torch_does(first):
    def normed() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))

    (x, y), ensemble = batch(B), fedfast.Ensemble(normed, K)
    if not first:
        ensemble.step(x, y)
    with pytest.raises(ValueError, match="x: the model cannot be trained on one sample"):
        ensemble.step(x[:1], y[:1])
    ensemble.step(x, y)
    fedfast.Ensemble(net, K).step(x[:1], y[:1])


@pytest.mark.parametrize("name", ["lr", "weight_decay", "rho"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_numbers_changed_in_place_are_checked(name, value):
    ensemble = fedfast.Ensemble(net, K, optimizer="sam")
    ensemble.step(*batch(B))
    getattr(ensemble, name)[1] = value
    with pytest.raises(ValueError, match=f"{name}: expected finite numbers >= 0"):
        ensemble.step(*batch(B))
    getattr(ensemble, name)[1] = 0.0
    assert ensemble.step(*batch(B)).isfinite().all() and ensemble.steps == 2


@pytest.mark.parametrize("change", [lambda lr: lr.numpy().fill(0.0), lambda lr: lr.data.zero_()])
def test_numbers_changed_behind_torchs_back_are_seen(change):
    ensemble = fedfast.Ensemble(net, K)
    ensemble.step(*batch(B))
    before = {name: t.clone() for name, t in ensemble.views().items()}
    change(ensemble.lr)
    ensemble.step(*batch(B))
    assert all(torch.equal(t, before[name]) for name, t in ensemble.views().items())


@pytest.mark.parametrize("begun", [True, False])
def test_a_state_brings_the_seed_of_dropout(begun):
    def dropped() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    source, ensemble = fedfast.Ensemble(dropped, K, seed=7), fedfast.Ensemble(dropped, K)
    source.step(*batch(B))
    if begun:
        ensemble.step(*batch(B))
    ensemble.load_state_dict(source.state_dict())
    for _ in range(2):
        assert torch.equal(ensemble.step(*batch(B)), source.step(*batch(B)))


def test_a_first_step_may_be_taken_without_gradients_recorded():
    with torch.no_grad():
        losses = fedfast.Ensemble(net, K).step(*batch(B))
    assert torch.equal(losses, fedfast.Ensemble(net, K).step(*batch(B)))


Damage = Callable[[dict], object]
MOMENT = "state['optimizer']['exp_avg']: expected "
DAMAGES: list[tuple[Damage, str]] = [
    (lambda s: s.update(models=5), "state: expected 3 models; got 5"),
    (lambda s: s.update(steps="ten"), "state['steps']: expected an integer; got 'ten'"),
    (lambda s: s.update(steps=-1), "state['steps']: expected at least 0; got -1"),
    (lambda s: s.update(seed=0.5), "state['seed']: expected an integer; got 0.5"),
    (lambda s: s.update(rates=7), "state['rates']: expected a dict; got 7"),
    (lambda s: s["rates"].pop("rho"), "state['rates']: expected lr, weight_decay, rho; got lr"),
    (lambda s: s["rates"].update(lr=-1.0), "state['rates']['lr']: expected finite numbers >= 0"),
    (lambda s: s["rates"].update(steps=1.0), "state['rates']: expected lr, weight_decay, rho; got"),
    (lambda s: s.update(optimizer={}), "state['optimizer']: expected exp_avg, exp_avg_sq; got no"),
    (lambda s: s.update(optimizer=None), "state['optimizer']: expected a dict; got None"),
    (lambda s: s["optimizer"]["exp_avg"].clear(), MOMENT + "0.weight, 0.bias, 2.weight, 2.bias"),
    (
        lambda s: s["optimizer"]["exp_avg"].update({"0.bias": torch.ones(4)}),
        MOMENT + "'0.bias' [3, 4]; got [4]",
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
@pytest.mark.parametrize("begun", [True, False])
def test_a_damaged_state_changes_nothing(damage, message, begun):
    source = fedfast.Ensemble(net, K, optimizer=Adam(), seed=5, lr=0.01)
    source.step(*batch(B))
    state, ensemble = source.state_dict(), fedfast.Ensemble(net, K, optimizer=Adam(), lr=0.02)
    other = fedfast.Ensemble(net, K, optimizer=Adam(), lr=0.02)
    if begun:
        ensemble.step(*batch(B))
        other.step(*batch(B))
    damage(state)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        ensemble.load_state_dict(state)
    assert ensemble.steps == other.steps
    assert torch.equal(ensemble.step(*batch(B)), other.step(*batch(B)))
    for name, t in ensemble.views().items():
        assert torch.equal(t, other.views()[name])


def test_a_state_from_before_the_first_batch_loads():
    source, ensemble = (fedfast.Ensemble(net, K, optimizer="adam", seed=s) for s in (4, 5))
    ensemble.step(*batch(B))
    ensemble.load_state_dict(source.state_dict())
    for _ in range(2):
        assert torch.equal(ensemble.step(*batch(B)), source.step(*batch(B)))
