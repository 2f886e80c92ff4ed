"""Runs of public implementations (or of a paper's formula) replayed round by round.

Each `oracles/*.npz` is one short run in float64 on a tiny tanh network with fixed batches.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from federation import flat, mlp
from torch import nn

import fedfast
from fedfast import algorithms as alg

ORACLES = Path(__file__).parent / "oracles"
SAM = dict(rho=0.1, eps=1e-7)
RUNS = {
    "fedavg": alg.FedAvg(),
    "fedsam": alg.FedSAM(**SAM),
    "fedcm": alg.FedCM(alpha=0.3),
    "scaffold": alg.SCAFFOLD(),
    "feddyn": alg.FedDyn(lam=0.1),
    "fedspeed": alg.FedSpeed(lam=0.1, variant="official", **SAM),
    "fedprox_clipped": alg.FedProx(mu=0.1),
    "fedgloss": alg.FedGloSS(rho=0.15, beta=10.0, local=fedfast.SAM(rho=0.15, eps=1e-16)),
    "fedgloss_official": alg.FedGloSS(
        rho=0.15, beta=10.0, local=fedfast.SAM(rho=0.15, eps=1e-16), variant="official"
    ),
    "fedfsa": alg.FedFSA(
        rho_default=0.1, rho_larger=0.9, TopC=1, alpha=0.3, lr_decay=0.95, variant="official"
    ),
}


def clients(oracle, meta):
    """One (x, y) per client; those that never train own one sample each."""
    x, y = oracle["x"], oracle["y"]
    if "samples_per_client" in oracle:
        cuts = np.cumsum(oracle["samples_per_client"])[:-1]
        x, y = np.split(x, cuts), np.split(y, cuts)
        idle = meta["total_clients"] - len(x)
        return list(x) + [x[0][:1]] * idle, list(y) + [y[0][:1]] * idle
    return list(x), list(y)


def schedule(oracle, meta, sizes):
    """The stored order cut into batches, the same in every epoch."""
    cohorts = oracle["cohort_ids"].tolist() if "cohort_ids" in oracle else None
    cohorts = cohorts or [np.flatnonzero(row).tolist() for row in oracle["cohort"]]
    width = meta["batch_size"]

    def steps(n):
        epoch = [list(range(b, min(n, b + width))) for b in range(0, n, width)]
        return epoch * meta["local_epochs"]

    return fedfast.Schedule.explicit(cohorts, [[steps(sizes[i]) for i in c] for c in cohorts])


def model(meta):
    """The network an oracle was made with, its tensors named as there."""
    if "fc3" not in meta["model"]:
        return mlp(dtype=torch.float64)
    layers = dict(
        a=nn.Linear(8, 7), t1=nn.Tanh(), h=nn.Linear(7, 6), t2=nn.Tanh(), fc3=nn.Linear(6, 4)
    )
    net = nn.Sequential()
    for name, layer in layers.items():
        net.add_module(name, layer)
    return net.double()


def replay(name, dtype, backend="native", rounds=None, **kwargs):
    """(our weights after every round [T, P] float64, the oracle's), all rounds or the first."""
    oracle = np.load(ORACLES / f"{name}.npz")
    meta = json.loads(str(oracle["meta"]))
    xs, ys = clients(oracle, meta)
    net = model(meta)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(oracle["w0"]), net.parameters())
    scale, decay = meta.get("loss_scale", 1.0), meta.get("lr_decay_per_round", 1.0)
    same = ("local_epochs", "lr", "weight_decay", "clip_norm")
    sim = fedfast.Simulation(
        net,
        fedfast.FederatedData.from_arrays(xs, ys),
        kwargs.pop("algorithm", RUNS[name]),
        schedule=schedule(oracle, meta, [len(y) for y in ys]),
        **{option: meta[option] for option in same},
        lr_decay=decay if isinstance(decay, float) else 1.0,
        server_lr=meta.get("server_lr", 1.0),
        loss="cross_entropy" if scale == 1.0 else (lambda z, t: scale * F.cross_entropy(z, t)),
        aggregation="samples" if meta["mean"] == "by sample count" else "uniform",
        dtype=dtype,
        backend=backend,
        **kwargs,
    )
    ours = torch.stack([flat(sim.state_dict()) for _ in islice(sim, rounds)])
    return ours, torch.from_numpy(oracle["w"])[:rounds]


@pytest.mark.parametrize("backend", ["native", "triton", "reference"])
@pytest.mark.parametrize("name", RUNS)
def test_public_run_round_by_round(name, backend):
    """Interpreted, three rounds: without state, with it, and with a state that was renewed."""
    rounds = 3 if backend == "triton" else None
    ours, theirs = replay(name, torch.float64, backend, rounds)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-12
    ours, theirs = replay(name, torch.float32, backend, rounds)
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("name", RUNS)
def test_chunks_and_threads_change_no_bit(name):
    whole, _ = replay(name, torch.float32)
    for kwargs in (dict(chunk=1), dict(chunk=2, threads=1)):
        assert torch.equal(replay(name, torch.float32, **kwargs)[0], whole)
