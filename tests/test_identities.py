"""Methods that are each other at some parameter values: bit for bit where only the order of equal
operations is at stake, else to 1e-13 in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from paired_runs import bound, data, free, path, simulation
from scripts import basic, variates
from scripts.run import gradient, total

import fedfast
from fedfast import algorithms as alg
from fedfast.round_cohort import cohort_of
from fedfast.round_records import Work

pytestmark = pytest.mark.usefixtures("one_thread")
EPS = dict(eps=1e-7)
OFFICIAL = dict(variant="official", **EPS)
SAM = fedfast.SAM(rho=0.2, **EPS)
# (one, other)
SAME = {
    "1 fedprox": (alg.FedProx(mu=0.0), alg.FedAvg()),
    "1 fedcm": (alg.FedCM(alpha=1.0), alg.FedAvg()),
    "1 fedsam": (alg.FedSAM(rho=0.0), alg.FedAvg()),
    "1 scaffold": (alg.SCAFFOLD(), alg.FedAvg()),
    "1 fedlesam": (alg.FedLESAM(rho=0.3), alg.FedAvg()),
    "2 mofedsam is fedsam": (alg.MoFedSAM(rho=0.2, alpha=1.0), alg.FedSAM(rho=0.2)),
    "2 mofedsam is fedcm": (alg.MoFedSAM(rho=0.0, alpha=0.3), alg.FedCM(alpha=0.3)),
    "2 fedfsa, one radius": (
        alg.FedFSA(rho_default=0.2, rho_larger=0.2, alpha=0.3),
        alg.MoFedSAM(rho=0.2, alpha=0.3, **EPS),
    ),
    "2 fedfsa, no list": (
        alg.FedFSA(rho_default=0.2, rho_larger=0.9, TopC=0, alpha=0.3),
        alg.MoFedSAM(rho=0.2, alpha=0.3, **EPS),
    ),
    "3 fedgamma": (alg.FedGAMMA(rho=0.0), alg.SCAFFOLD()),
    "3 fedlesam-s": (alg.FedLESAMS(rho=0.0), alg.SCAFFOLD()),
    "3 fedsmoo": (alg.FedSMOO(rho=0.0), alg.FedDyn()),
    "3 fedspeed": (alg.FedSpeed(rho=0.0, **OFFICIAL), alg.FedDyn()),
    "3 fedlesam-d": (alg.FedLESAMD(rho=0.0), alg.FedDyn()),
    "4 fedspeed is feddyn+sam": (
        alg.FedSpeed(rho=0.2, lam=0.25, **OFFICIAL),
        alg.FedDyn(lam=0.25, local=SAM),
    ),
    "4 feddyn+sam is fedgloss": (
        alg.FedDyn(lam=0.25, clip="whole", local=SAM),
        alg.FedGloSS(rho=0.0, beta=4.0, local=SAM),
    ),
    "5 fedgloss is feddyn": (
        alg.FedGloSS(rho=0.0, beta=4.0, local=fedfast.SAM(rho=0.0)),
        alg.FedDyn(lam=0.25, clip="whole"),
    ),
    "6 modified scaffold": (alg.SCAFFOLD(modified=True), alg.FedAvg()),
    "7 fednsam": (alg.FedNSAM(gamma=0.0, rho=0.2), alg.FedSAM(rho=0.2)),
}
AT_FIRST = ("1 scaffold", "1 fedlesam")  # in the first round only
ROUNDED = ("7 fednsam",)  # the others to the bit when nothing but the clip is in play


@pytest.mark.parametrize("name", SAME)
def test_two_names_for_one_method(name):
    rounds = 1 if name in AT_FIRST else 5
    clipped, loose = bound(rounds=rounds), free(rounds=rounds, by_samples=False)
    # A loss of one's own is computed by the module executor, where nothing is fused and the clip
    # makes all steps take the same way. Layer programs fold plain steps into products and compute
    # plain SAM by thin factors, which rounds differently.
    for run, loss, exact in (
        (clipped, F.cross_entropy, name not in ROUNDED),
        (clipped, "cross_entropy", False),
        (loose, "cross_entropy", False),
    ):
        ours, theirs = (path(simulation(run, a, loss=loss)) for a in SAME[name])
        assert torch.equal(ours, theirs) if exact else (ours - theirs).abs().max() < 1e-13


@pytest.mark.parametrize("algorithm", [alg.SCAFFOLD(), alg.FedLESAM(rho=0.3)], ids=lambda a: a.name)
def test_after_round_0_they_part(algorithm):
    ours, plain = (path(simulation(bound(), a)) for a in (algorithm, alg.FedAvg()))
    # In round 1 only clients train that have no model to look back to.
    assert (ours[2:] - plain[2:]).abs().amax(dim=1).min() > 1e-4


@pytest.mark.parametrize("rho", [0.0, 0.2])
def test_5_sigma_is_the_mean_of_all_clients_duals(rho):
    run = free()
    sim = simulation(run, alg.FedGloSS(rho=rho, beta=4.0))
    for _ in sim:
        clients, server = sim._engine.clients, sim._engine.state
        rows = [clients.row("h_i", k) for k in range(len(run.data))]
        mean = sum(r for r in rows if r is not None) / len(run.data)
        assert (server.rows["h"] - mean).abs().max() < 1e-14


def test_6_fedgh_without_conflicts_is_fedavg():
    x, y = data()[3]
    run = free(rounds=3, sizes=[12] * 4, cohorts=[[0, 1, 2, 3]] * 3)
    run = replace(run, data=[(x, y)] * 4)
    ours = path(simulation(run, alg.FedGH()))
    assert torch.equal(ours, path(simulation(run, alg.FedAvg())))


@pytest.mark.parametrize("reference", ["pair", "original"])
def test_6_two_opposite_updates_leave_nothing(reference):
    run = free(rounds=1, sizes=[4, 4], cohorts=[[0, 1]])
    sim = simulation(run, alg.FedGH(reference=reference))
    engine, d = sim._engine, torch.randn(1, 31, dtype=torch.float64)
    models, start = torch.cat([d, -d]), torch.zeros(31, dtype=torch.float64)
    cohort = cohort_of(engine, Work(0, sim.schedule.round(0), 0.1, 1, 2), np.arange(2))
    weights, _ = engine.algorithm.server.reweigh(models, start, cohort, engine.visible, "native")
    assert (weights @ models).abs().max() < 1e-15


def test_7_the_next_model_is_the_mean_of_the_local_ones():
    run = free()
    sim = simulation(run, alg.FedNSAM(gamma=0.6, rho=0.2))
    for t, _ in enumerate(sim):
        cohort = run.cohorts[t]
        steps = np.array([len(run.batches(t, k)) for k in cohort])
        order = np.argsort(-steps, kind="stable")
        models = sim._engine.trainer.live.w[: len(cohort)]
        mean = total([run.shares(t)[i] for i in order], list(models))
        assert (sim._engine.state.row - mean).abs().max() < 1e-14


def test_8_fedwmsam_without_perturbation():
    run, alpha, eta = free(), 0.3, free().eta
    zero = torch.zeros_like(run.w0)
    w, M, c, expected, c_of = run.w0, zero, zero, [], [zero] * 5
    for t, cohort in enumerate(run.cohorts):
        D, means, change = [], [], zero
        for k in cohort:
            v, batches = w, run.batches(t, k)
            for x, y in batches:
                v = run.step(v, alpha * (gradient(v, x, y) + c - c_of[k]) + (1 - alpha) * M, t)
            D.append(v - w)
            means.append((w - v) / (len(batches) * eta(t)))
            change = change + (means[-1] - c)
            c_of[k] = c_of[k] - c + means[-1]
        w, M, c = w + total(run.shares(t), D), total(run.shares(t), means), c + change / 5
        expected.append(w)
    ours = path(simulation(run, alg.FedWMSAM(rho=0.0, alpha=alpha, lam=0.0)))
    assert (ours - torch.stack(expected)).abs().max() < 1e-13
    scripted = variates.fedwmsam(run, 0.0, alpha, 0.0, 1e-12)
    assert (scripted - torch.stack(expected)).abs().max() < 1e-13


@pytest.mark.parametrize(("variant", "factor"), [("paper", 2.0), ("official", 1.0)])
def test_9_fedsagm_at_zero_is_sgd_at_twice_the_rate_or_at_it(variant, factor):
    run = free(weight_decay=0.0)
    ours = path(simulation(run, alg.FedSAGM(rho=0.0, alpha=0.0, variant=variant)))
    plain = path(simulation(replace(run, lr=factor * run.lr), alg.FedAvg()))
    assert torch.equal(ours, plain)


def one_step(run):
    """Everybody takes part with all its samples at once."""
    everybody = [list(range(5))] * 3
    whole = [[[[list(range(len(y)))]] for _, y in run.data]] * 3
    return replace(run, cohorts=everybody, epochs=whole, weight_decay=0.0)


def test_10_fedsgd_sums_to_a_centralized_step_on_the_summed_loss():
    run = one_step(free(lr=0.02))
    x, y = (torch.cat(part) for part in zip(*run.data, strict=True))
    w, expected = run.w0, []
    for t in range(3):
        w = w - run.eta(t) * len(y) * gradient(w, x, y)
        expected.append(w)
    ours = path(simulation(run, alg.FedSGD(rule="sum"), batch_size=None))
    assert (ours - torch.stack(expected)).abs().max() < 1e-13
    assert (basic.fedsgd(run, "sum") - torch.stack(expected)).abs().max() < 1e-13


def test_11_fedavg_with_one_full_batch_is_fedsgd():
    run = one_step(free())
    ours = path(simulation(run, alg.FedAvg(), batch_size=None))
    assert torch.equal(ours, path(simulation(run, alg.FedSGD(), batch_size=None)))


def test_12_the_first_step_of_fedsmoo_is_sam_and_the_dual():
    run = one_step(free())
    run = replace(run, cohorts=run.cohorts[:1], epochs=run.epochs[:1])
    ours = path(simulation(run, alg.FedSMOO(rho=0.2, lam=0.3)))
    assert torch.equal(ours, path(simulation(run, alg.FedDyn(lam=0.3, local=SAM))))
