"""Accuracy and loss of every client, and their spread, against a loop over clients in float64."""

import io
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from federation import arrays, mlp, trained
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fedfast
from fedfast import algorithms as alg
from fedfast import checkpoint
from fedfast.client_scores import ClientScores
from fedfast.history import FIELDS, History, read_runs
from fedfast.module_evaluator import ModuleEvaluator

SIZES, TESTS = [10, 4, 14, 6, 11, 7], [700, 1, 0, 530, 3, 20]  # more than one pass takes, and none
SETTINGS = dict(rounds=2, participation=0.5, batch_size=4, lr=0.2, client_metrics=True)
SPREAD = ("local_std", "local_worst", "personal_std", "personal_worst")


def norms():
    """A model that is evaluated by itself: no layer program has its activation."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        layers = nn.Linear(8, 7), nn.BatchNorm1d(7), nn.Softplus(), nn.Linear(7, 4)
        return nn.Sequential(*layers)


def federation():
    xs, ys = arrays(SIZES)
    tests = list(zip(*arrays(TESTS, seed=3), strict=True))
    return fedfast.FederatedData.from_arrays(xs, ys, test=tests)


def expected(sim, loss, state_of):
    """A line per client: samples, accuracy and the loss on all of its test part, in float64."""
    made = []
    for k, (x, y) in enumerate(zip(*arrays(TESTS, seed=3), strict=True)):
        if len(y):
            module = sim.model().double().eval()
            module.load_state_dict(state_of(k))
            with torch.no_grad():
                outputs = module(x.double())
            right = outputs.argmax(1) == y
            value = float(loss(outputs, y))
            made += [{"client": k, "right": float(hit), "loss": value} for hit in right]
    grouped = pd.DataFrame(made).groupby("client")
    return pd.DataFrame(
        {"samples": grouped.size(), "accuracy": grouped.right.mean(), "loss": grouped.loss.first()}
    )


def margins(z, y):
    """A loss of the whole set: no mean of parts' losses."""
    return torch.nn.functional.cross_entropy(z, y) + z.mean(0).square().sum()


WEIGHTED = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64))


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("make", [mlp, norms], ids=["program", "module"])
@pytest.mark.parametrize(
    "loss", [nn.functional.cross_entropy, WEIGHTED, margins], ids=["plain", "weighted", "whole"]
)
def test_each_client_has_the_figures_of_a_loop_in_float64(make, loss, backend):
    given = "cross_entropy" if loss is nn.functional.cross_entropy else loss
    options = SETTINGS | {"dtype": torch.float64, "loss": given, "backend": backend, "threads": 2}
    sim = trained(make().double(), federation(), alg.FedFSA(TopC=1), **options)
    if make is norms:
        assert isinstance(sim._components.evaluator(), ModuleEvaluator)
    found = sim.evaluate_clients().to_pandas()
    common = expected(sim, loss, lambda k: sim.state_dict())
    own = expected(sim, loss, sim.client_state_dict)
    pd.testing.assert_frame_equal(found[["samples", "accuracy", "loss"]], common, rtol=1e-12)
    theirs = found[["samples", "personal_accuracy", "personal_loss"]]
    theirs.columns = own.columns
    pd.testing.assert_frame_equal(theirs, own, rtol=1e-12)
    row, tenth = sim.history[-1], 1  # of five clients with test samples
    for name, frame in (("local", common), ("personal", own)):
        ordered = frame.accuracy.sort_values()
        assert getattr(row, f"{name}_std") == pytest.approx(frame.accuracy.std(ddof=0), rel=1e-12)
        assert getattr(row, f"{name}_worst") == pytest.approx(ordered.iloc[:tenth].mean())


def test_what_is_asked_for_changes_no_figure_of_the_history():
    options = SETTINGS | {"client_metrics": False, "eval_every": 2, "rounds": 3}
    plain = trained(mlp(), federation(), "fedala", **options)
    asked = trained(mlp(), federation(), "fedala", **options | {"client_metrics": True})
    clock = {name for name in FIELDS if "second" in name}
    for a, b in zip(plain.history, asked.history, strict=True):
        for name in set(FIELDS) - clock:
            assert repr(getattr(a, name)) == repr(getattr(b, name)), name
    frames = [sim.evaluate_clients().to_pandas() for sim in (plain, asked)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert math.isnan(asked.history[0].local_std)
    assert not math.isnan(asked.history[1].local_std)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=150),
    st.integers(1, 100),
)
def test_the_worst_share_is_rounded_up_to_whole_clients(pairs, percent):
    tested = np.array([a + b for a, b in pairs])
    right = np.array([a for a, _ in pairs])
    scores = ClientScores(tested, right, None)
    shares = sorted(Fraction(a, a + b) for a, b in pairs if a + b)
    if not shares:
        assert math.isnan(scores.worst(percent / 100)) and math.isnan(scores.std())
        return
    count = -(-len(shares) * percent // 100)
    mean = sum(shares) / len(shares)
    variance = sum((share - mean) ** 2 for share in shares) / len(shares)
    assert scores.worst(percent / 100) == pytest.approx(float(sum(shares[:count]) / count))
    assert scores.std() == pytest.approx(math.sqrt(variance), abs=1e-12)
    assert math.isnan(scores.worst(personal=True)) and math.isnan(scores.std(personal=True))


def test_a_task_without_accuracy_has_losses_per_client():
    xs, _ = arrays(SIZES)
    data = fedfast.FederatedData.from_arrays(xs, xs, test=[(x, x) for x in xs])
    sim = trained(nn.Linear(8, 8), data, "fedavg", loss=nn.MSELoss(), **SETTINGS)
    scores, model = sim.evaluate_clients(), sim.model()
    losses = [nn.functional.mse_loss(model(x), x).item() for x in xs]
    assert scores.loss.tolist() == pytest.approx(losses, rel=1e-6)
    assert np.isnan(scores.accuracy).all() and math.isnan(scores.worst())


def test_without_test_parts_it_is_refused_before_training():
    data = fedfast.FederatedData.from_arrays(*arrays(SIZES))
    message = "client_metrics: expected clients with test parts; they have no test parts of their"
    with pytest.raises(ValueError, match=f"{message} own; .* local_test in a file.*with_test"):
        fedfast.Simulation(mlp(), data, "fedavg", client_metrics=True)
    scores = ClientScores(np.array([2]), np.array([1]), None)
    with pytest.raises(ValueError, match=r"share: expected a share in \(0, 1\]; got 1.5"):
        scores.worst(1.5)


def test_files_of_versions_without_the_spread_are_read(tmp_path):
    sim = trained(mlp(), federation(), "fedala", **SETTINGS)
    frame = pd.read_csv(io.StringIO(sim.history.csv()), dtype=str)
    frame.drop(columns=list(SPREAD)).to_csv(tmp_path / "old.csv", index=False, na_rep="nan")
    (old,) = read_runs(tmp_path / "old.csv").values()
    assert old.column("local_accuracy") == sim.history.column("local_accuracy")
    assert all(math.isnan(value) for name in SPREAD for value in old.column(name))
    sim.history.to_csv(tmp_path / "new.csv")
    new = History.from_csv(tmp_path / "new.csv")
    assert [new.column(name) for name in SPREAD] == [sim.history.column(name) for name in SPREAD]
    frame.drop(columns="scalars").to_csv(tmp_path / "cut.csv", index=False)
    with pytest.raises(ValueError, match=r"cut.csv: .*lacks \['scalars'\]"):
        read_runs(tmp_path / "cut.csv")


def test_a_saved_simulation_goes_on_whether_asked_or_not(tmp_path):
    sim = trained(
        mlp(), federation(), "fedala", **SETTINGS | {"client_metrics": False, "eval_every": 3}
    )
    sim.save(tmp_path / "state")
    other = fedfast.Simulation(mlp(), federation(), "fedala", **SETTINGS | {"rounds": 3})
    other.load(tmp_path / "state")
    frames = [each.evaluate_clients().to_pandas() for each in (sim, other)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    later = {name: value for name, value in SETTINGS.items() if name != "rounds"}
    rows = checkpoint.history(tmp_path / "state")
    for name in SPREAD:
        assert getattr(rows[1], name) == getattr(sim.history[1], name)
    assert rows[1].local_std > 0
    late = fedfast.Simulation(mlp(), federation(), "fedala", rounds=3, eval_every=3, **later)
    late.load(tmp_path / "state")
    for name in SPREAD:  # figures that only the earlier end has brought are gone
        assert math.isnan(getattr(late.history[1], name))
