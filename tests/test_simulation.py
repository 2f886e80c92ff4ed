"""The engine and its public boundary: invariances, divergence, errors before training."""

import math
from collections import OrderedDict

import pytest
import torch
from federation import arrays, federation, final, flat, mlp, trained
from fedfast.kernels import native
from interrupts import SIZES
from torch import nn

import fedfast
from fedfast.algorithms import FedAdam, FedAvg, FedAvgM, FedSAM


class Noisy(nn.Module):
    """Convolution, BatchNorm and dropout: buffers that move and random numbers that are drawn."""

    def __init__(self, drop=nn.Dropout):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.drop = drop(0.3)
        self.head = nn.Linear(3 * 16, 4)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.norm(self.conv(x)))).flatten(1))


def noisy(drop=nn.Dropout):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Noisy(drop)


def run(model, data, algorithm="fedsam", **kwargs):
    settings = dict(rounds=3, participation=1.0, local_epochs=2, batch_size=4, clip_norm=1.0)
    return trained(model, data, algorithm, **(settings | kwargs))


CASES = {
    "mlp": (mlp, (8,), FedSAM(rho=0.1)),
    "momentum": (mlp, (8,), FedAvgM(beta=0.5, local=fedfast.SAM(rho=0.1, momentum=0.5))),
    "noisy": (noisy, (1, 4, 4), FedAdam(local=fedfast.ASAM(rho=0.1))),
    "generic": (lambda: noisy(nn.AlphaDropout), (1, 4, 4), FedSAM(rho=0.1)),
}


@pytest.mark.parametrize("case", CASES)
def test_result_is_bitwise_the_same_for_any_chunk_and_thread_count(case):
    make, shape, algorithm = CASES[case]
    data = federation(SIZES, shape=shape)
    outcomes = []
    for chunk, threads in [(1, 1), (7, 1), (None, 1), (1, 2), (7, 2), (None, 2)]:
        sim = run(make(), data, algorithm, chunk=chunk, threads=threads, server_lr=0.5)
        rows = [(r.train_loss, r.update_norm) for r in sim.history]
        outcomes.append((flat(sim.state_dict()), rows))
    for state, rows in outcomes[1:]:
        assert torch.equal(state, outcomes[0][0])
        assert rows == outcomes[0][1]


def test_a_client_alone_is_the_client_in_company():
    xs, ys = arrays(SIZES)
    both = fedfast.Schedule.explicit([[4, 7]], [[[[0, 1], [2]], [[3, 4, 5], [0]]]])
    alone = fedfast.Schedule.explicit([[7]], [[[[3, 4, 5], [0]]]])
    data = fedfast.FederatedData.from_arrays(xs, ys)
    weights = {}
    for name, schedule in (("both", both), ("alone", alone)):
        sim = fedfast.Simulation(mlp(), data, "fedsam", schedule=schedule, aggregation="uniform")
        sim.run(progress=False)
        weights[name] = sim._engine.trainer.live.w[schedule.largest_cohort - 1].clone()
    assert torch.equal(weights["both"], weights["alone"])


def test_running_statistics_of_batchnorm_are_the_mean_over_clients():
    data, momentum = federation([6, 10], shape=(1, 4, 4)), 0.1
    model = noisy()
    sim = run(model, data, "fedavg", rounds=1, local_epochs=1, batch_size=None)
    expected = torch.zeros(3)
    for i, share in enumerate((6 / 16, 10 / 16)):
        seen = model.conv(data.client(i).x).mean(dim=(0, 2, 3)).detach()
        expected += share * momentum * seen
    assert torch.allclose(sim.state_dict()["norm.running_mean"], expected, atol=1e-6)
    assert int(sim.state_dict()["norm.num_batches_tracked"]) == 1


def test_second_gradient_of_sam_leaves_running_statistics_alone():
    data = federation([6], shape=(1, 4, 4))
    kwargs = dict(rounds=1, local_epochs=1, batch_size=None)
    one = run(noisy(), data, "fedavg", **kwargs).state_dict()
    two = run(noisy(), data, FedSAM(rho=0.5), **kwargs).state_dict()
    assert torch.equal(one["norm.running_var"], two["norm.running_var"])


def test_users_module_and_random_state_are_left_alone():
    model, data = noisy(), federation([6, 3], shape=(1, 4, 4))
    before = flat(model.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    sim = run(model, data)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(flat(model.state_dict()), before)
    model.load_state_dict(sim.state_dict())
    assert not torch.equal(flat(model.state_dict()), before)


def test_aggregation_weighs_by_samples_or_uniformly():
    xs, ys = arrays([3, 9])
    data = fedfast.FederatedData.from_arrays(xs, ys)
    only = [fedfast.FederatedData.from_arrays([x], [y]) for x, y in zip(xs, ys, strict=True)]
    kwargs = dict(rounds=1, batch_size=None, local_epochs=1, algorithm="fedavg")
    a, b = (flat(run(mlp(), d, **kwargs).state_dict()) for d in only)
    for aggregation, share in (("samples", 0.25), ("uniform", 0.5)):
        got = flat(run(mlp(), data, aggregation=aggregation, **kwargs).state_dict())
        assert torch.allclose(got, share * a + (1 - share) * b, atol=1e-6)


def test_learning_rate_decays_per_round_or_follows_a_callable():
    data = federation([5])
    assert [r.lr for r in run(mlp(), data, lr=0.4, lr_decay=0.5).history] == [0.4, 0.2, 0.1]
    sim = run(mlp(), data, lr=lambda t: 0.1 / (t + 1))
    assert [r.lr for r in sim.history] == [0.1, 0.05, 0.1 / 3]


def test_evaluation_equals_the_module_itself_and_keeps_to_its_rounds():
    x, y = (t[0] for t in arrays([1300]))
    sim = run(mlp(), federation(SIZES), test=(x, y), rounds=5, eval_every=2)
    assert [math.isnan(r.accuracy) for r in sim.history] == [True, False, True, False, False]
    late = run(mlp(), federation(SIZES), test=(x, y), rounds=5, eval_every=2, eval_last=3)
    assert [math.isnan(r.accuracy) for r in late.history] == [True, False, False, False, False]
    module = sim.model().eval()
    logits = module(x).detach()
    assert sim.history[-1].accuracy == pytest.approx(float((logits.argmax(1) == y).double().mean()))
    assert sim.history[-1].loss == pytest.approx(float(nn.functional.cross_entropy(logits, y)))


def test_rounds_can_be_taken_one_by_one_and_callbacks_see_each():
    seen = []
    callbacks = [lambda s, row: seen.append((s.round, row.round))]
    sim = fedfast.Simulation(mlp(), federation(SIZES), rounds=4, callbacks=callbacks)
    rows = iter(sim)
    next(rows), next(rows)
    assert sim.round == 2
    sim.run(progress=False)
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert torch.equal(final(mlp(), federation(SIZES), rounds=4), flat(sim.state_dict()))


def test_same_seed_same_batches_for_every_algorithm():
    data = federation(SIZES)
    a, b = (fedfast.Simulation(mlp(), data, name, seed=4) for name in ("fedavg", "fedsam"))
    for t in range(3):
        left, right = a.schedule.round(t), b.schedule.round(t)
        assert left.clients.tolist() == right.clients.tolist()


def test_loss_may_be_a_callable():
    data = federation(SIZES)
    own = run(mlp(), data, loss=lambda logits, y: nn.functional.cross_entropy(logits, y))
    named = run(mlp(), data)
    assert (flat(own.state_dict()) - flat(named.state_dict())).abs().max() < 1e-5


# -- divergence ------------------------------------------------------------------------------------


def explosive():
    """Client 1's inputs overflow its very first gradient; the others are calm."""
    xs, ys = arrays([6, 6, 6])
    xs[1] = torch.full_like(xs[1], 3e38)
    model = mlp()
    model[2] = nn.Identity()  # no tanh to tame it
    nn.init.constant_(model[1].weight, 2.0)
    return model, fedfast.FederatedData.from_arrays(xs, ys)


def test_divergence_stops_the_run_in_its_round_with_the_model_finite():
    model, data = explosive()
    before = flat(model.state_dict())
    sim = run(model, data, "fedavg", clip_norm=None, rounds=5)
    assert len(sim.history) == 1 and sim.history[0].status == "diverged: client 1 non-finite"
    assert torch.equal(flat(sim.state_dict()), before)
    assert sim.stopped


def test_divergence_may_be_survived_as_a_client_that_did_not_move():
    model, data = explosive()
    sim = run(model, data, "fedavg", clip_norm=None, rounds=3, on_divergence="continue", chunk=2)
    assert [r.status for r in sim.history] == ["diverged: client 1 non-finite"] * 3
    state = flat(sim.state_dict())
    assert state.isfinite().all() and not torch.equal(state, flat(model.state_dict()))
    xs, ys = arrays([6, 6, 6])
    calm = fedfast.FederatedData.from_arrays([xs[0], xs[2]], [ys[0], ys[2]])
    kwargs = dict(rounds=1, batch_size=None, local_epochs=1, clip_norm=None)
    two = run(model, calm, "fedavg", **kwargs)
    three = run(model, data, "fedavg", on_divergence="continue", **kwargs)
    start = flat(model.state_dict())
    moved, expected = flat(three.state_dict()) - start, flat(two.state_dict()) - start
    assert torch.allclose(moved, expected * 2 / 3, atol=1e-6)


def test_global_divergence_is_recorded_and_history_stays_readable(tmp_path):
    sim = run(mlp(), federation(SIZES), "fedavg", server_lr=1e300, rounds=4, dtype=torch.float32)
    assert sim.history[-1].status == "diverged: global model non-finite"
    assert len(sim.history) == 1 and flat(sim.state_dict()).isfinite().all()
    sim.history.to_csv(tmp_path / "h.csv")
    assert fedfast.History.from_csv(tmp_path / "h.csv")[0].status == sim.history[0].status


def test_global_divergence_survived_resets_the_moments():
    options = dict(server_lr=1e300, on_divergence="continue")
    sim = run(mlp(), federation(SIZES), FedAdam(), **options)
    assert [r.status for r in sim.history] == ["diverged: global model non-finite"] * 3
    assert flat(sim.state_dict()).isfinite().all()
    assert all(t.isfinite().all() for t in sim._engine.state.tensors().values())


# -- empty clients ---------------------------------------------------------------------------------


def with_empty():
    xs, ys = arrays([4, 3, 5])
    xs[1], ys[1] = xs[1][:0], ys[1][:0]
    return fedfast.FederatedData.from_arrays(xs, ys)


def test_empty_clients_are_skipped_with_one_warning():
    with pytest.warns(UserWarning, match="1 of 3 clients have no samples") as warned:
        sim = run(mlp(), with_empty(), rounds=5)
    assert len(warned) == 1
    assert all(1 not in sim.schedule.round(t).clients for t in range(5))


# -- the public boundary ---------------------------------------------------------------------------

ANOTHER = fedfast.Schedule.explicit([[0]], [[[[99]]]])
SHAPE = r"model: it cannot take data of shape \[2, 8\]"
LABEL = "label 3 is out of range for a model with 3 outputs"
REFUSING = dict(clients=with_empty(), empty_clients="refuse")
HEAD, NO_MOMENTUM = nn.Linear(8, 4), nn.BatchNorm1d(4, momentum=None)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (dict(rounds=0), ValueError, "rounds: expected at least 1; got 0"),
        (dict(participation=0.0), ValueError, r"participation: expected a share in \(0, 1\]"),
        (dict(participation=1.5), ValueError, r"participation: expected a share in \(0, 1\]"),
        (dict(chunk=0), ValueError, "chunk: expected at least 1; got 0"),
        (dict(batch_size=2.5), TypeError, "batch_size: expected an integer; got 2.5"),
        (dict(lr=-1.0), ValueError, "lr: expected a number above 0; got -1.0"),
        (dict(lr=math.nan), ValueError, "lr: expected a finite number"),
        (dict(lr_decay=0.0), ValueError, "lr_decay: expected a number above 0"),
        (dict(clip_norm=0.0), ValueError, "clip_norm: expected a number above 0"),
        (dict(weight_decay=-1e-4), ValueError, "weight_decay: expected a number >= 0"),
        (dict(aggregation="sample"), ValueError, "did you mean 'samples'"),
        (dict(backend="cuda"), ValueError, "backend: unknown name 'cuda'"),
        (dict(device="tpu"), ValueError, "device: expected 'auto', 'cpu' or 'cuda'"),
        (dict(dtype=torch.bfloat16), ValueError, "dtype: expected torch.float32"),
        (dict(loss="crossentropy"), ValueError, "did you mean 'cross_entropy'"),
        (dict(loss=3), TypeError, "loss: expected"),
        (dict(algorithm="fedsmo"), ValueError, "algorithm: unknown name 'fedsmo'"),
        (dict(algorithm=FedAvg), TypeError, "algorithm: expected a name or an object"),
        (dict(callbacks=print), TypeError, "callbacks: expected a sequence"),
        (dict(seed="x"), TypeError, "seed: expected an integer"),
        (dict(schedule=[[0]]), TypeError, "schedule: expected a fedfast.Schedule"),
        (dict(lr=lambda t: 0.1, lr_decay=0.9), ValueError, "lr_decay: a callable lr"),
        (dict(test=(torch.zeros(2, 9), torch.zeros(2).long())), ValueError, "test: expected"),
        (dict(test=(torch.zeros(2, 8), torch.tensor([0, 4]))), ValueError, "test: label 4"),
        (dict(schedule=ANOTHER), ValueError, "99"),
        (REFUSING, ValueError, "the first is client 1"),
        (dict(model=nn.Linear(9, 4)), ValueError, SHAPE),
        (dict(model=nn.Unflatten(1, (4, 2))), ValueError, "model: it has no parameter to train"),
        (dict(model=nn.Sequential(HEAD, nn.Unflatten(1, (2, 2)))), ValueError, "expected logits"),
        (dict(model=nn.Linear(8, 3)), ValueError, LABEL),
        (dict(model=nn.Sequential(HEAD, NO_MOMENTUM)), ValueError, "momentum"),
        (dict(model=lambda x: x), TypeError, "model: expected an nn.Module"),
    ],
)
def test_bad_arguments_are_refused_before_training(bad, error, message):
    arguments = dict(model=mlp(), clients=federation(SIZES)) | bad
    with pytest.raises(error, match=message):
        fedfast.Simulation(**arguments)


def test_a_backend_that_is_missing_is_reported_at_once(monkeypatch):
    monkeypatch.setattr(native, "module", None)
    monkeypatch.setattr(native, "reason", "no file", raising=False)
    with pytest.raises(RuntimeError, match="choose backend='reference'"):
        fedfast.Simulation(mlp(), federation(SIZES))
    assert len(run(mlp(), federation(SIZES), backend="reference").history) == 3


def test_named_layers_survive_into_the_users_module():
    model = nn.Sequential(OrderedDict(first=nn.Linear(8, 5), act=nn.ReLU(), last=nn.Linear(5, 4)))
    sim = run(model, federation(SIZES))
    assert list(sim.state_dict()) == list(model.state_dict())
    model.load_state_dict(sim.state_dict(), strict=True)


def test_the_norm_sum_adds_up_the_norms_of_every_tensor_of_the_step():
    for chunk in (None, 3):
        model = mlp()
        sim = run(model, federation(SIZES), "fedavg", rounds=1, server_lr=0.5, chunk=chunk)
        old, new = model.state_dict(), sim.state_dict()
        norms = [float((new[k].double() - old[k].double()).norm()) / 0.5 for k in old]
        assert sim.history[0].update_norm_sum == pytest.approx(sum(norms), rel=1e-5)
        whole = sum(n**2 for n in norms) ** 0.5
        assert sim.history[0].update_norm == pytest.approx(whole, rel=1e-5)
