"""What is uploaded is what mean, sums and losses' weights see; scripts in plain torch beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from federation import arrays, federation, flat, mlp

import fedfast
from fedfast import algorithms as alg
from fedfast.algorithms import Algorithm, Drift, Sum

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from fair_and_private import Private, QFair, TopK  # noqa: E402

SIZES = [9, 14, 5, 7]
LR, ROUNDS, EPOCHS = 0.1, 3, 2


def simulate(algorithm, rounds=ROUNDS, **kwargs):
    options = dict(participation=1.0, batch_size=None, lr=LR, local_epochs=EPOCHS) | kwargs
    options |= dict(rounds=rounds, dtype=torch.float64)
    return fedfast.Simulation(mlp(dtype=torch.float64), federation(SIZES), algorithm, **options)


def weights(algorithm, **kwargs):
    sim = simulate(algorithm, **kwargs)
    sim.run(progress=False)
    return flat(sim.state_dict())


def trained(w, x, y):
    """Full-batch SGD from `w`: (the model, the loss at `w`)."""
    net, first = mlp(dtype=torch.float64), None
    for _ in range(EPOCHS):
        torch.nn.utils.vector_to_parameters(w, net.parameters())
        loss = F.cross_entropy(net(x.double()), y)
        first = loss.item() if first is None else first
        g = torch.autograd.grad(loss, list(net.parameters()))
        w = w - LR * torch.cat([t.flatten() for t in g])
    return w, first


def script(upload, weigh):
    """Weights after `ROUNDS`: upload(round, client, update) -> update, weigh(updates, losses)."""
    w = torch.nn.utils.parameters_to_vector(mlp(dtype=torch.float64).parameters()).detach()
    for t in range(ROUNDS):
        ends = [trained(w, x, y) for x, y in zip(*arrays(SIZES), strict=True)]
        sent = torch.stack([upload(t, k, end - w) for k, (end, _) in enumerate(ends)])
        w = w + weigh(torch.tensor([f for _, f in ends], dtype=torch.float64), sent) @ sent
    return w


def mean(losses, updates):
    n = torch.tensor(SIZES, dtype=torch.float64)
    return n / n.sum()


def plain(t, k, update):
    return update


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_top_k_with_error_feedback(chunk):
    memory = [0.0] * len(SIZES)

    def upload(t, k, update):
        u = update + memory[k]
        keep = torch.zeros_like(u)
        largest = u.abs().argsort(descending=True)[: int(0.1 * len(u))]
        keep[largest] = u[largest]
        memory[k] = u - keep
        return keep

    ours = weights(Algorithm(drift=TopK(share=0.1)), chunk=chunk)
    assert torch.allclose(ours, script(upload, mean), atol=1e-12)


def test_clip_and_noise():
    def upload(t, k, update):
        key = fedfast.random.keys64(0, t, k, fedfast.random.OWN, 1)[..., 0] >> 1
        noise = torch.empty_like(update)
        noise.normal_(generator=torch.Generator().manual_seed(int(key)))
        return update * min(1.0, 0.01 / float(update.norm())) + 0.1 * 0.01 * noise

    algorithm = Algorithm(drift=Private(clip=0.01, noise=0.1))
    runs = [weights(algorithm, chunk=k) for k in (1, 2, 4)]
    assert all(torch.equal(runs[0], r) for r in runs)
    assert torch.allclose(runs[0], script(upload, mean), atol=1e-12)
    assert not torch.equal(runs[0], weights(algorithm, seed=1))


@pytest.mark.parametrize("q", [0.0, 1.0, 5.0])
def test_q_ffl(q):
    def weigh(losses, updates):
        delta = updates / LR  # the paper's delta_k = F^q L (w - w_k), L = 1 / lr
        h = q * losses ** (q - 1) * delta.square().sum(1) + losses**q / LR
        return losses**q / LR / h.sum()

    for chunk in (2, 4):
        ours = weights(Algorithm(server=QFair(q=q, L=1 / LR)), chunk=chunk)
        assert torch.allclose(ours, script(plain, weigh), atol=1e-9)


class Half(Drift):
    server_rows = ("h",)

    def upload(self, at):
        at.w.sub_(at.start).mul_(0.5).add_(at.start)

    def sums(self, cohort):
        return [Sum("h", torch.ones_like(cohort.weights), keep=0.0)]

    def finish(self, at):
        return {"length": (at.w - at.start).norm(dim=1)}

    def settle(self, server, cohort, numbers):
        lengths.append((numbers["length"], cohort.numbers["length"], server.rows["h"].norm()))


lengths: list = []


def test_mean_sums_and_finish_see_what_was_uploaded_and_personal_models_do_not():
    lengths.clear()
    half = simulate(Algorithm(drift=Half(), keep_models=True), rounds=1)
    full = simulate(Algorithm(keep_models=True), rounds=1)
    before = flat(full.state_dict())
    half.run(progress=False), full.run(progress=False)
    assert torch.allclose(flat(half.state_dict()) - before, (flat(full.state_dict()) - before) / 2)
    ends = [flat(full.client_state_dict(i)) for i in range(4)]
    assert all(torch.equal(flat(half.client_state_dict(i)), ends[i]) for i in range(4))
    reported, again, total = lengths[0]
    expected = sorted(((e - before) / 2).norm().item() for e in ends)
    assert torch.allclose(
        reported.sort().values.double(), torch.tensor(expected).double(), atol=1e-12
    )
    assert torch.equal(reported, again)
    assert torch.allclose(total, sum((e - before) / 2 for e in ends).norm(), atol=1e-12)


class Broken(Drift):
    def upload(self, at):
        at.w[torch.from_numpy(at.ids == 2)] = torch.nan


def test_a_non_finite_upload_is_a_divergence_of_its_client():
    sim = simulate(Algorithm(drift=Broken()), rounds=1, on_divergence="continue")
    row = sim.run(progress=False).last()
    assert "client 2" in row.status
    assert torch.isfinite(flat(sim.state_dict())).all()


WRITES = {
    "torch": lambda at: at.w.mul_(0.5),
    "numpy": lambda at: np.multiply(at.w, 0.5, out=at.w.numpy()),
    "kernel": lambda at: fedfast.kernels.step(at.w, [(at.start, 0.1)], 1.0, out=at.w),
    "bound anew": lambda at: setattr(at, "w", at.w * 0.5),
    "start": lambda at: at.start.add_(1.0),
}
SENT, NEW = r"at\.start.*Mine", r"at\.w.*{hook}.*Mine|at\.w: {hook}"
WRONG = [("finish", write, r"at\.(w|start).*finish.*Mine") for write in WRITES]
WRONG += [(hook, "start", SENT) for hook in ("begin", "after_step", "upload")]
WRONG += [(hook, "bound anew", NEW.format(hook=hook)) for hook in ("after_step", "upload")]


@pytest.mark.parametrize(("hook", "write", "message"), WRONG)
def test_a_write_where_nothing_may_be_written_is_an_error(hook, write, message):
    """The model in `finish`, what was sent in any hook, another tensor instead of the model."""

    def wrong(self, at):
        WRITES[write](at)
        return {}

    kind = type("Mine", (Drift,), {hook: wrong})
    with pytest.raises(ValueError, match=message):
        weights(Algorithm(drift=kind()))


def test_server_rows_are_read_only():
    def write(self, at, terms):
        at.server["m"].add_(1.0)
        return super(Mine, self).correct(at, terms)

    Mine = type("Mine", (alg.ClientMomentum,), {"correct": write})
    with pytest.raises(ValueError, match=r"at\.server\['m'\].*Mine"):
        weights(Algorithm(drift=Mine()))


def test_the_gradient_of_a_fused_step_is_not_on_show_afterwards():
    kind = type("Mine", (Drift,), {"finish": lambda self, at: {"g": at.g.norm(dim=1)}})
    with pytest.raises(AttributeError, match="'g'"):
        weights(Algorithm(drift=kind()))
