"""Bad parameters are refused under the paper's symbol, and so are contradicting components."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
from paired_runs import free, simulation

import fedfast
from fedfast import algorithms as alg
from fedfast.algorithms import by_name

# What each symbol may not be, wherever an algorithm has a parameter of that name.
RADIUS = [(-0.1, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("x", TypeError)]
SHARE = [(-0.1, ValueError), (1.1, ValueError), (None, TypeError), (True, TypeError)]
WORD = [("papr", ValueError)]
BAD = {
    "rho": RADIUS,
    "rho0": RADIUS,
    "rho_default": RADIUS,
    "rho_larger": RADIUS,
    "eps": RADIUS,
    "eta": RADIUS,
    "mu": RADIUS,
    "tau": RADIUS,
    "v0": RADIUS,
    "lam": [(-0.1, ValueError), (math.nan, ValueError), ("x", TypeError)],
    "gamma": SHARE,
    "beta1": SHARE,
    "beta2": SHARE,
    "beta": [(-1.0, ValueError), (math.nan, ValueError), ("x", TypeError)],
    "alpha": [(-0.1, ValueError), (math.nan, ValueError), ("x", TypeError)],
    "momentum": SHARE,
    "lr_decay": [(0.0, ValueError), (1.5, ValueError), ("x", TypeError)],
    "TopC": [(-1, ValueError), (1.5, TypeError)],
    "T_s": [(-1, ValueError), (1.5, TypeError)],
    "steps": [(0.0, ValueError), ("x", TypeError)],
    "clip": WORD,
    "variant": WORD,
    "option": [("III", ValueError)],
    "rule": WORD,
    "select": WORD,
    "granularity": WORD,
    "reference": WORD,
    "order": WORD,
    "s": [(0.0, ValueError), (100.5, ValueError), ("x", TypeError)],
    "p": [(0, ValueError), (1.5, TypeError)],
    "threshold": [(0.0, ValueError), ("x", TypeError)],
    "L": [(0, ValueError), (1.5, TypeError)],
    "T": [(0.0, ValueError), ("x", TypeError)],
    "perturbed": WORD,
    "strength": WORD,
    "epochs": [(0, ValueError), (1.5, TypeError)],
    "layers": WORD,
    "keep_models": [(1, TypeError), ("yes", TypeError)],
}
PIECES = ("local", "drift", "server", "modified", "fine_tune")
EVERY = [
    (name, field.name, value, error)
    for name, page in alg.ALGORITHMS.items()
    for field in fields(page)
    if field.init and field.name not in PIECES
    for value, error in BAD[field.name]
]


@pytest.mark.parametrize(("name", "symbol", "value", "error"), EVERY)
def test_a_bad_value_is_refused_under_its_symbol(name, symbol, value, error):
    with pytest.raises(error, match=rf"^{symbol}\b"):
        by_name(name, **{symbol: value})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("fedcm", dict(alpha=0.0)),  # the client's own gradient would have no weight: no training
        ("mofedsam", dict(alpha=1.1)),
        ("fedspeed", dict(alpha=1.1)),
        ("fedwmsam", dict(alpha=1.0)),  # Delta_k divides by 1 - alpha
        ("fedgloss", dict(beta=0.0)),
        ("fedavgm", dict(beta=1.1)),
        ("fedwmsam", dict(lam=1.1)),
        ("fedfsa", dict(alpha=0.0)),
    ],
)
def test_bounds_that_only_one_method_has(name, parameters):
    with pytest.raises(ValueError, match=f"^{next(iter(parameters))}: expected"):
        by_name(name, **parameters)


def test_more_tensors_than_the_model_has_weights_are_refused():
    with pytest.raises(ValueError, match="TopC: expected at most 2, the model's weight tensors"):
        simulation(free(), alg.FedFSA(TopC=3))
    simulation(free(), alg.FedFSA(TopC=2))


MOMENTUM = fedfast.SGD(momentum=0.9)
CONTRADICTIONS = [
    (lambda: alg.SCAFFOLD(local=MOMENTUM), "local momentum under control-variate"),
    (lambda: alg.FedDyn(local=MOMENTUM), "local momentum under dual"),
    (lambda: alg.FedCM(local=MOMENTUM), "local momentum under client-momentum"),
    (lambda: alg.SCAFFOLD(server=alg.ServerSAM()), "perturbed start under control-variate"),
    (lambda: alg.FedCM(server=alg.ServerSAM()), "perturbed start under client-momentum"),
    (lambda: alg.FedLESAM(server=alg.ServerSAM()), "lesam under server-sam"),
    (lambda: alg.FedGloSS(local=alg.LESAM()), "lesam under server-sam"),
    (lambda: alg.NaiveFedGloSS(local=alg.LESAM()), "lesam under rehearsed-sam"),
    (lambda: alg.NaiveFedGloSS(variant="official"), "variant: unknown name 'official'"),
    (lambda: alg.Centralized(drift=alg.Prox()), "no drift to correct"),
    (lambda: alg.Centralized(drift=alg.ControlVariate()), "no drift to correct"),
    (lambda: alg.Centralized(server=alg.Harmonized()), "nobody to conflict with"),
    (lambda: alg.FedSGD(rule="sum", drift=alg.Dual()), "dual needs a mean of the clients"),
    (lambda: alg.FedAvg(local=alg.GuidedSAM()), "predicts from weighted-momentum"),
    (lambda: alg.FedAvg(local=alg.LookAhead()), "look-ahead needs server momentum"),
    (lambda: alg.FedSpeed(variant="official", alpha=0.5), "alpha: expected 1 with the official"),
    (lambda: alg.SCAFFOLD(option="I", steps=5.0), "steps: expected None with option I"),
    (lambda: alg.WeightedMomentum(reset=True), "reset: expected False"),
    (lambda: alg.FedWMSAM(lr_decay=0.9), "lr_decay: expected 1: only the official variant"),
    (lambda: alg.FedGloSS(rho=alg.Ramp(0, 0.1, 5), T_s=5), "T_s: expected 0 with a schedule"),
    (lambda: fedfast.SGD(nesterov=True), "nesterov: expected False without momentum"),
]


@pytest.mark.parametrize(("make", "reason"), CONTRADICTIONS)
def test_contradictions_are_refused_with_their_reason(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: alg.FedProx(local=MOMENTUM),  # the proximal term keeps no state
        lambda: alg.SCAFFOLD(modified=True, local=MOMENTUM),  # the variate corrects nothing
        lambda: alg.FedDyn(server=alg.ServerSAM()),
        lambda: alg.FedProx(server=alg.Nesterov()),
        lambda: alg.Centralized(local=fedfast.SAM()),
        lambda: alg.FedAvg(local=alg.FSA(), drift=alg.Dual(), server=alg.Harmonized()),
    ],
)
def test_what_is_no_contradiction_is_allowed(make):
    assert make().components


def test_fedsgd_makes_one_step_on_everything():
    for kwargs, says in ((dict(batch_size=4), "batch_size: fedsgd"), ({}, "local_epochs: fedsgd")):
        with pytest.raises(ValueError, match=says):
            simulation(free(), alg.FedSGD(), **(dict(batch_size=None) | kwargs))
