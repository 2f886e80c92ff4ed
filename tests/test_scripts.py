"""Every algorithm is the method of its paper: the engine against plain autograd, round by round.

Clients of unequal size skip rounds; learning rates decay; weights decay; in half of the runs the
clip bites at nearly every step, clients weigh alike and the server takes shorter steps.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from federation import flat
from paired_runs import SIZES, bound, epochs, free, path, simulation
from scripts import basic, duals, gloss, lookahead, variates
from scripts.gradients import asam, sam
from scripts.run import SPANS
from scripts.servers import adaptive, harmonized, momentum

import fedfast
from fedfast import algorithms as alg
from fedfast.random import keys64

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = 1e-12  # the engine's eps: a plain 0 in the papers, kept here so that both divide alike


def largest(count):
    """The `count` tensors with the largest scores, the first of equals."""
    return lambda t, k, scores: sorted(scores, key=lambda n: -scores[n])[:count]


def smallest(t, k, scores):
    return sorted(scores, key=scores.__getitem__)[:1]


def drawn(t, pairs):
    """The page's random order of pairs: by the keys of (seed, round)."""
    keys = keys64(0, t, np.zeros(1, dtype=np.int64), 6, len(pairs))[0]
    return [pairs[i] for i in np.argsort(keys, kind="stable")]


def ramp(start, end, rounds):
    return lambda t: start + (end - start) * min(t / rounds, 1.0)


def official_radius(rho0, rho, rho_l, rounds):
    """The authors' schedule of the server's radius."""
    return lambda t: rho0 if t == 0 else rho_l + (rho - rho0) / rounds if t <= rounds else rho


def always(value):
    return lambda t: value


def alike(page, script, **both):
    """(algorithm, script) whose parameters have the same names."""
    return page(**both), partial(script, **both)


SAM = fedfast.SAM(rho=0.2)
GH = [(g, r, o) for g in ("model", "tensor") for r in ("pair", "current", "original")
      for o in ("ascending", "descending", "random")]  # fmt: skip
CASES = {
    "fedavg": (alg.FedAvg(), basic.fedavg),
    "fedavgm": (alg.FedAvgM(beta=0.7), lambda r: basic.fedavg(r, rule=momentum(r, 0.7))),
    "fedadam": (
        alg.FedAdam(beta1=0.8, beta2=0.9, tau=0.1),
        lambda r: basic.fedavg(r, rule=adaptive(r, "adam", 0.8, 0.9, 0.1)),
    ),
    "fedyogi": (
        alg.FedYogi(beta1=0.8, beta2=0.9, tau=0.1),
        lambda r: basic.fedavg(r, rule=adaptive(r, "yogi", 0.8, 0.9, 0.1)),
    ),
    "fedadagrad": (
        alg.FedAdagrad(tau=0.1),
        lambda r: basic.fedavg(r, rule=adaptive(r, "adagrad", 0.0, 0.9, 0.1)),
    ),
    "fedprox": alike(alg.FedProx, basic.fedprox, mu=0.4),
    "fedprox-whole": alike(alg.FedProx, basic.fedprox, mu=0.4, clip="whole"),
    "fedcm": alike(alg.FedCM, basic.fedcm, alpha=0.3),
    "scaffold": alike(alg.SCAFFOLD, variates.scaffold),
    "scaffold-I": alike(alg.SCAFFOLD, variates.scaffold, option="I"),
    "scaffold-modified": alike(alg.SCAFFOLD, variates.scaffold, modified=True),
    "feddyn": alike(alg.FedDyn, duals.feddyn, lam=0.3),
    "feddyn-whole": alike(alg.FedDyn, duals.feddyn, lam=0.3, clip="whole"),
    "feddyn+sam": (
        alg.FedDyn(lam=0.3, local=SAM),
        lambda r: duals.feddyn(r, 0.3, grad_at=sam(0.2, SMALL)),
    ),
    "fedsam": (alg.FedSAM(rho=0.2), lambda r: basic.fedavg(r, sam(0.2, SMALL))),
    "fedasam": (
        alg.FedASAM(rho=0.3, eta=0.2),
        lambda r: basic.fedavg(r, asam(0.3, 0.2, 1e-16)),
    ),
    "mofedsam": (
        alg.MoFedSAM(rho=0.2, alpha=0.3),
        lambda r: basic.fedcm(r, 0.3, sam(0.2, SMALL)),
    ),
    "fedsagm": alike(alg.FedSAGM, partial(basic.fedsagm, eps=SMALL, share=1.0), rho=0.2, alpha=0.3),
    "fedsagm-official": (
        alg.FedSAGM(rho=0.2, alpha=0.3, variant="official"),
        lambda r: basic.fedsagm(r, 0.2, 0.3, SMALL, 0.5),
    ),
    "fedspeed": alike(alg.FedSpeed, partial(duals.fedspeed, eps=1e-7), rho=0.2, lam=0.3, alpha=0.6),
    "fedspeed-official": (
        alg.FedSpeed(rho=0.2, lam=0.3, variant="official"),
        lambda r: duals.feddyn(r, 0.3, grad_at=sam(0.2, 1e-7)),
    ),
    "fedgamma": (
        alg.FedGAMMA(rho=0.2),
        lambda r: variates.scaffold(r, grad_at=sam(0.2, SMALL)),
    ),
    "fedsmoo": alike(alg.FedSMOO, partial(duals.fedsmoo, eps=1e-7), rho=0.2, lam=0.3),
    "fedsmoo-official": (
        alg.FedSMOO(rho=0.2, lam=0.3, variant="official"),
        lambda r: duals.fedsmoo(r, 0.2, 0.3, 1e-7, official=True),
    ),
    "fedlesam": alike(alg.FedLESAM, partial(lookahead.fedlesam, eps=SMALL), rho=0.2),
    "fedlesam-s": alike(alg.FedLESAMS, partial(lookahead.fedlesam, eps=SMALL, kind="S"), rho=0.2),
    "fedlesam-d": (
        alg.FedLESAMD(rho=0.2, lam=0.3),
        lambda r: lookahead.fedlesam(r, 0.2, SMALL, "D", 0.3),
    ),
    "naive-fedgloss": (
        alg.NaiveFedGloSS(rho=0.2, beta=3.0),
        lambda r: gloss.naive(r, always(0.2), 3.0),
    ),
    "naive-fedgloss+sam": (
        alg.NaiveFedGloSS(rho=0.2, beta=3.0, local=SAM),
        lambda r: gloss.naive(r, always(0.2), 3.0, always(0.2)),
    ),
    "fedgloss": (
        alg.FedGloSS(rho=0.2, beta=3.0),
        lambda r: gloss.fedgloss(r, always(0.2), 3.0),
    ),
    "fedgloss+sam": (
        alg.FedGloSS(rho=0.3, beta=3.0, local=SAM),
        lambda r: gloss.fedgloss(r, always(0.3), 3.0, always(0.2)),
    ),
    "fedgloss-official": (
        alg.FedGloSS(rho=0.3, beta=3.0, local=SAM, variant="official"),
        lambda r: gloss.fedgloss(r, always(0.3), 3.0, always(0.2), official=True),
    ),
    "fedgloss-ramp": (
        alg.FedGloSS(rho=0.3, beta=3.0, local=SAM, rho0=0.01, T_s=3),
        lambda r: gloss.fedgloss(r, ramp(0.01, 0.3, 3), 3.0, ramp(0.01, 0.2, 3)),
    ),
    "fedgloss-official-ramp": (
        alg.FedGloSS(rho=0.3, beta=3.0, local=SAM, rho0=0.01, T_s=3, variant="official"),
        lambda r: gloss.fedgloss(
            r, official_radius(0.01, 0.3, 0.2, 3), 3.0, ramp(0.01, 0.2, 3), official=True
        ),
    ),
    "fedfsa": (
        alg.FedFSA(rho_default=0.1, rho_larger=0.6, TopC=1, alpha=0.3),
        lambda r: lookahead.fedfsa(r, 0.1, 0.6, 0.3, 1e-7, largest(1)),
    ),
    "fedfsa-reverse": (
        alg.FedFSA(rho_default=0.1, rho_larger=0.6, TopC=1, alpha=0.3, select="reverse"),
        lambda r: lookahead.fedfsa(r, 0.1, 0.6, 0.3, 1e-7, smallest),
    ),
    "fednsam": alike(alg.FedNSAM, partial(lookahead.fednsam, eps=SMALL), gamma=0.6, rho=0.2),
    "fednsam-single": (
        alg.FedNSAMSingle(gamma=0.6),
        lambda r: lookahead.fednsam(r, 0.6, 0.0, SMALL, single=True),
    ),
    "fedwmsam": (
        alg.FedWMSAM(rho=0.2, alpha=0.3, lam=0.2),
        lambda r: variates.fedwmsam(r, 0.2, 0.3, 0.2, SMALL),
    ),
    "fedwmsam-official": (
        alg.FedWMSAM(rho=0.2, alpha=0.3, lam=0.2, lr_decay=0.9, variant="official"),
        lambda r: variates.fedwmsam(r, 0.2, 0.3, 0.2, SMALL, official=True),
    ),
    "fedgh": (alg.FedGH(), lambda r: basic.fedavg(r, rule=harmonized(r))),
    "fsa-under-fedavg": (
        alg.FedAvg(local=fedfast.algorithms.FSA(rho_default=0.1, rho_larger=0.6, TopC=1)),
        lambda r: lookahead.fedfsa(r, 0.1, 0.6, 1.0, 1e-7, largest(1)),
    ),
    "sam-under-scaffold-and-server-momentum": (
        alg.SCAFFOLD(local=SAM, server=alg.Momentum(beta=0.7)),
        lambda r: variates.scaffold(r, grad_at=sam(0.2, SMALL), rule=momentum(r, 0.7)),
    ),
    "asam-under-feddyn": (
        alg.FedDyn(lam=0.3, local=fedfast.ASAM(rho=0.3)),
        lambda r: duals.feddyn(r, 0.3, grad_at=asam(0.3, 0.2, 1e-16)),
    ),
    "fedprox-with-adam": (
        alg.FedProx(mu=0.4, server=alg.Adam(beta1=0.8, beta2=0.9, tau=0.1)),
        lambda r: basic.fedprox(r, 0.4, rule=adaptive(r, "adam", 0.8, 0.9, 0.1)),
    ),
    "fedgh-over-feddyn": (
        alg.FedDyn(lam=0.3, server=alg.Harmonized()),
        lambda r: duals.feddyn(r, 0.3, rule=harmonized(r)),
    ),
    "fedgh-over-scaffold": (
        alg.SCAFFOLD(server=alg.Harmonized()),
        lambda r: variates.scaffold(r, rule=harmonized(r)),
    ),
    "fedgh-over-fedcm": (
        alg.FedCM(alpha=0.3, server=alg.Harmonized()),
        lambda r: basic.fedcm(r, 0.3, rule=harmonized(r)),
    ),
}
# Nesterov's point is w + gamma m where the server takes whole steps.
WHOLE_STEPS = ("fednsam", "fednsam-single")


def settings(name):
    whole = dict(server_lr=1.0) if name in WHOLE_STEPS else {}
    return {"free": free(), "bound": bound(**whole)}


@pytest.mark.parametrize("setting", ["free", "bound"])
@pytest.mark.parametrize("name", CASES)
def test_the_script_round_by_round(name, setting):
    algorithm, script = CASES[name]
    run = settings(name)[setting]
    expected = script(run)
    # The slower backend runs where the clip makes it do everything.
    for backend in ("native", "reference") if setting == "bound" else ("native",):
        ours = path(simulation(run, algorithm, backend=backend))
        assert (ours - expected).abs().max() < 1e-12, backend
    ours = path(simulation(run, algorithm, dtype=torch.float32))
    assert (ours - expected).abs().max() < 1e-5


# The interpreter takes about a millisecond per program: one case per algorithm, four steps each.
IN_TRITON = [name for name in CASES if name in alg.names()]


@pytest.mark.parametrize("name", IN_TRITON)
def test_the_script_in_triton(name):
    algorithm, script = CASES[name]
    run = free(sizes=[3, 6], cohorts=[[0, 1], [1]], local_epochs=1)
    ours = path(simulation(run, algorithm, backend="triton"))
    assert (ours - script(run)).abs().max() < 1e-12


def test_the_settings_do_what_they_say():
    plain = basic.fedavg(free())
    for change in (dict(lr_decay=1.0), dict(weight_decay=0.0), dict(by_samples=False)):
        assert (basic.fedavg(free(**change)) - plain).abs().max() > 1e-4
    loose = basic.fedavg(bound(clip_norm=None))
    assert (basic.fedavg(bound()) - loose).abs().max() > 1e-2
    assert {k for cohort in free().cohorts for k in cohort} == set(range(5))


backends = pytest.mark.parametrize("backend", ["native", "triton"])


@backends
@pytest.mark.parametrize("rule", ["mean", "sum", "weighted-sum"])
def test_fedsgd(rule, backend):
    whole = [[[[list(range(n))]] for n in ns] for ns in ([5, 2, 12], [9, 7])]
    run = free(rounds=2, lr=0.02, weight_decay=0.0, epochs=whole)
    ours = path(simulation(run, alg.FedSGD(rule=rule), batch_size=None, backend=backend))
    assert (ours - basic.fedsgd(run, rule)).abs().max() < 1e-12


@backends
@pytest.mark.parametrize("local", [None, SAM], ids=["sgd", "sam"])
def test_centralized(local, backend):
    three = free(rounds=2, sizes=SIZES[:3], cohorts=[[0]] * 2)
    pooled = tuple(torch.cat(part) for part in zip(*three.data, strict=True))
    steps = [[epochs(16, 1, t)] for t in range(2)]
    run = replace(three, data=[pooled], epochs=steps)
    # The engine pools the three clients itself, one after the other.
    algorithm = alg.Centralized(local=local or fedfast.SGD())
    ours = path(simulation(replace(run, data=three.data), algorithm, backend=backend))
    expected = basic.centralized(run, sam(0.2, SMALL)) if local else basic.centralized(run)
    assert (ours - expected).abs().max() < 1e-12


@pytest.mark.parametrize(("granularity", "reference", "order"), GH)
def test_fedgh_is_the_naive_loop_over_vectors(granularity, reference, order):
    run = free(rounds=3, cohorts=[[4, 2, 0, 3, 1]] * 3)
    rule = harmonized(run, granularity, reference, drawn if order == "random" else order)
    algorithm = alg.FedGH(granularity=granularity, reference=reference, order=order)
    for kwargs in (dict(), dict(chunk=2)):
        ours = path(simulation(run, algorithm, **kwargs))
        assert (ours - basic.fedavg(run, rule=rule)).abs().max() < 1e-12
    assert (ours - basic.fedavg(run)).abs().max() > 1e-3  # there are conflicts


def test_fedfsa_random_draws_a_list_of_weights_that_the_script_follows():
    run, lists = free(), {}
    algorithm = alg.FedFSA(rho_default=0.1, rho_larger=0.6, TopC=1, alpha=0.3, select="random")
    sim, ours = simulation(run, algorithm), []
    for t, cohort in enumerate(run.cohorts):
        next(iter(sim))
        ours.append(flat(sim.state_dict()))
        top = sim._engine.clients.values["top"]
        for k in cohort:
            lists[t, k] = [list(SPANS)[i] for i in top[k].nonzero()]
    assert {tuple(names) for names in lists.values()} == {("0.weight",), ("2.weight",)}
    expected = lookahead.fedfsa(run, 0.1, 0.6, 0.3, 1e-7, lambda t, k, scores: lists[t, k])
    assert (torch.stack(ours) - expected).abs().max() < 1e-12
