"""What clients and server keep between rounds: whatever the chunk, whoever sat out or diverged."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from interrupts import differences
from paired_runs import bound, data, free, path, simulation
from scripts import duals, variates

import fedfast
from fedfast import algorithms as alg

pytestmark = pytest.mark.usefixtures("one_thread")
STATEFUL = {
    "scaffold": alg.SCAFFOLD(),
    "feddyn": alg.FedDyn(),
    "fedsmoo": alg.FedSMOO(),
    "fedsmoo-official": alg.FedSMOO(variant="official"),
    "fedspeed": alg.FedSpeed(alpha=0.5),
    "fedlesam-s": alg.FedLESAMS(rho=0.1),
    "fedgloss": alg.FedGloSS(local=fedfast.SAM(rho=0.1)),
    "fedgloss-official": alg.FedGloSS(variant="official"),
    "fedwmsam": alg.FedWMSAM(rho=0.1, lam=0.2),
    "fedfsa": alg.FedFSA(TopC=1, lr_decay=0.9),
    "fedadam": alg.FedAdam(tau=0.1),
    "fedgh-over-feddyn": alg.FedDyn(server=alg.Harmonized(momentum=0.5)),
}


def everything(sim):
    """A copy of all that outlives a round."""
    server, clients = sim._engine.state, sim._engine.clients
    rows = {
        (name, k): row.clone()
        for name in clients.first
        for k in range(clients.population)
        if (row := clients.row(name, k)) is not None
    }
    kept = {("value", name): v.clone() for name, v in clients.values.items()}
    held = {("server", name): t.clone() for name, t in server.tensors().items()}
    return held | {("scalars",): dict(server.scalars)}, rows | kept


# FedCR trains a model of another make: test_fedcr.py asks the same of it.
@pytest.mark.parametrize("name", [n for n in alg.names() if n != "fedcr"])
def test_neither_chunks_nor_threads_change_a_bit(name):
    few = {"fedfsa": dict(TopC=1, lr_decay=0.9)}.get(name, {})
    run, batch = bound(rounds=3), 4
    if name == "fedsgd":
        whole = [[[[list(range(len(run.data[k][1])))]] for k in c] for c in run.cohorts]
        run, batch = replace(run, epochs=whole), None
    elif name == "centralized":
        run = replace(run, cohorts=[[0]] * 3, epochs=[e[:1] for e in run.epochs])
    kwargs = dict(dtype=torch.float32, batch_size=batch)
    sims = [
        simulation(run, alg.by_name(name, **few), **kwargs, **how)
        for how in (dict(), dict(chunk=1), dict(chunk=2, threads=2))
    ]
    paths = [path(sim) for sim in sims]
    for other, sim in zip(paths[1:], sims[1:], strict=True):
        assert torch.equal(other, paths[0])
        for ours, theirs in zip(everything(sim), everything(sims[0]), strict=True):
            assert not differences(ours, theirs)


def test_who_sits_out_keeps_its_variate_and_its_dual():
    run, c, h = free(), {}, {}
    variates.scaffold(run, own=c)
    duals.feddyn(run, 0.3, own=h)
    for algorithm, row, own in ((alg.SCAFFOLD(), "c_i", c), (alg.FedDyn(lam=0.3), "h_i", h)):
        sim = simulation(run, algorithm)
        path(sim)
        spans = sim._engine.visible.segments.spans
        for k in range(5):  # clients 1 and 2 sat out the last round
            ours = sim._engine.clients.row(row, k)
            ours = torch.cat([ours[start:stop] for start, stop in spans])
            assert (ours - own[k]).abs().max() < 1e-12


def with_a_bomb():
    """In its second round, of three, client 1 meets a sample that overflows its first layer."""
    run = free(rounds=3, cohorts=[[0, 1, 3]] * 3, local_epochs=1)
    x, y = data()[1]
    x[8] = 1e308
    epochs = [[[[[0, 1, 2]]] * 1] * 3 for _ in range(3)]
    epochs[1] = [[[[0, 1, 2]]], [[[8]]], [[[0, 1, 2]]]]
    clients = [(x, y) if k == 1 else own for k, own in enumerate(run.data)]
    return replace(run, data=clients, epochs=epochs, w0=4 * run.w0)


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("name", STATEFUL)
def test_a_client_that_diverged_keeps_its_state_and_spoils_nobody_elses(name, chunk):
    sim = simulation(with_a_bomb(), STATEFUL[name], on_divergence="continue", chunk=chunk)
    rounds = iter(sim)
    next(rounds)
    _, before = everything(sim)
    row = next(rounds)
    assert row.status == "diverged: client 1 non-finite"
    server, after = everything(sim)
    for key, value in after.items():
        if key[0] == "value":
            assert torch.equal(value[1], before[key][1]), key
        elif key[1] not in (0, 3):  # who trained, and did not diverge
            assert torch.equal(value, before[key]), key
        else:
            assert not torch.equal(value, before[key]), key
    for value in [*server.values(), *after.values()]:
        assert isinstance(value, dict) or value.isfinite().all()
    assert next(rounds).status == "ok"


def test_the_server_variate_stays_the_mean_of_the_clients():
    sim = simulation(with_a_bomb(), alg.SCAFFOLD(), on_divergence="continue")
    for _ in sim:
        clients = sim._engine.clients
        rows = [r for k in range(5) if (r := clients.row("c_i", k)) is not None]
        assert (sim._engine.state.rows["c"] - sum(rows) / 5).abs().max() < 1e-14


@pytest.mark.parametrize("name", STATEFUL)
def test_a_rejected_round_leaves_the_server_as_it_was(name):
    sim = simulation(with_a_bomb(), STATEFUL[name], on_divergence="stop")
    rounds = iter(sim)
    next(rounds)
    before, _ = everything(sim)
    assert next(rounds).status == "diverged: client 1 non-finite" and sim.stopped
    assert not differences(everything(sim)[0], before)


def test_a_full_gradient_that_overflows_never_reaches_the_server():
    """Option I looks at all of client 1's data, also in rounds whose batches are harmless."""
    sim = simulation(with_a_bomb(), alg.SCAFFOLD(option="I"))
    before, _ = everything(sim)
    assert [row.status for row in sim] == ["diverged: global model non-finite"]
    assert not differences(everything(sim)[0], before)


def test_a_dual_that_explodes_is_a_divergence_in_its_round():
    run = free(lr=30.0, lr_decay=1.0)
    sim = simulation(run, alg.FedDyn(lam=30.0), dtype=torch.float32)
    weights = path(sim)
    expected = duals.feddyn(run, 30.0).abs().amax(dim=1)
    assert [row.status == "ok" for row in sim.history] == [True] * (len(weights) - 1) + [False]
    first = int((expected > torch.finfo(torch.float32).max).nonzero()[0])
    assert sim.history[-1].round == len(weights) and abs(len(weights) - 1 - first) <= 1
    assert 1 < len(weights) <= 5 and torch.equal(weights[-1], weights[-2])
    assert "diverged" in sim.history[-1].status and weights.isfinite().all()
