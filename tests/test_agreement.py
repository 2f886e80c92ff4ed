"""Metrics of rounds against NumPy on recorded updates; what they do not depend on; their errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import recorded_rounds as rr
import torch
from federation import arrays
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_rounds import cosine
from torch import nn

import fedfast
from fedfast.algorithms.hooks import TrainedLayout
from fedfast.layout import FlatLayout
from fedfast.metrics.agreement import (
    ROUND_METRICS,
    SeenRound,
    measured_models,
    measures,
    round_metrics,
)
from fedfast.metrics.agreement.watch import Watch
from fedfast.metrics.agreement.watched_mean import WatchedMean
from fedfast.running_sum import Place
from fedfast.transfers import arrays_of

NAMES = ["fedavg", "fedgh", "fedgloss", "fedwmsam", "scaffold", "fedavgm", "fedcm", "fedsgd"]
NAMES += ["naive-fedgloss"]


def normed() -> nn.Module:
    """With running statistics behind the trained region of a row."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))


def close(found: dict[str, float], expected: dict[str, float], where: str) -> None:
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=2e-6, abs=1e-7, nan_ok=True), (where, name)


def sums(found: rr.Round, mean: np.ndarray) -> dict[str, float]:
    """Cosines, drift and norm, in the plain way."""
    moved = found.updates[np.linalg.norm(found.updates, axis=1) > 0]
    share = found.weights / found.weights.sum()
    between = [cosine(a, b) for i, a in enumerate(moved) for b in moved[i + 1 :]]
    far = share @ np.square(found.updates).sum(1)
    near = share @ np.square(found.updates - share @ found.updates).sum(1)
    return {
        "cosine_global": float(np.mean([cosine(u, mean) for u in moved])),
        "cosine_pairs": float(np.mean(between)),
        "drift_global": float(far),
        "drift_mean": float(near),
        "model_norm": float(np.linalg.norm(found.w)),
    }


@pytest.mark.parametrize("name", NAMES)
def test_columns_are_those_of_numpy(name: str) -> None:
    rounds, history = rr.recorded(name)
    for found, row in zip(rounds, history, strict=True):
        model, tensors = rr.conflict_shares(found.updates, found.spans)
        mean, after = found.mean, (math.nan, math.nan)
        if name == "fedgh":
            changed = rr.harmonized(found, "model")
            mean, after = found.weights @ changed, rr.conflict_shares(changed, found.spans)
        expected = sums(found, mean) | {"conflicts": model, "conflicts_tensors": tensors}
        expected |= dict(zip(("conflicts_after", "conflicts_tensors_after"), after, strict=True))
        close(row.measured, expected, f"{name}, round {row.round}")


@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_conflicts_are_those_that_fedgh_counts(granularity: str) -> None:
    rule = fedfast.algorithms.FedGH(granularity=granularity)
    rounds, history = rr.recorded(rule, rounds=3)
    met = 0
    for found, row in zip(rounds, history, strict=True):
        own = dict(pair.split("=") for pair in row.scalars.split())
        each = ("conflicts", "conflicts_after")
        if granularity == "tensor":
            each = ("conflicts_tensors", "conflicts_tensors_after")
        many = 10 * (len(found.spans) if granularity == "tensor" else 1)
        counted = [float(own["conflicts_before"]), float(own["conflicts_after"])]
        assert [row.measured[n] * many for n in each] == pytest.approx(counted)
        met += counted[0]
        changed = rr.harmonized(found, granularity)
        expected = rr.conflict_shares(changed, found.spans)
        assert row.measured["conflicts_after"] == pytest.approx(expected[0])
        assert row.measured["conflicts_tensors_after"] == pytest.approx(expected[1])
    assert met > 0


@pytest.mark.parametrize("T_s", [0, 3])
def test_delta_eps_is_the_distance_of_two_perturbations(T_s: int) -> None:
    """rho_t d_t / |d_t| against rho_t d_(t-1) / |d_(t-1)|; both grow with the radius."""
    rounds, history = rr.recorded(fedfast.algorithms.FedGloSS(rho=0.2, T_s=T_s, rho0=0.01))
    assert math.isnan(history[0].measured["delta_eps"])
    for t in range(1, 4):
        now, last = rounds[t].mean, rounds[t - 1].mean
        rho = 0.01 + (0.2 - 0.01) * min(t, T_s) / T_s if T_s else 0.2
        apart = rho * now / np.linalg.norm(now) - rho * last / np.linalg.norm(last)
        expected = {"delta_eps": np.linalg.norm(apart), "delta_eps_cosine": cosine(now, last)}
        close(history[t].measured, expected, f"round {t}")


def test_momentum_is_what_fedwmsams_alpha_follows() -> None:
    rounds, history = rr.recorded("fedwmsam")
    alpha = 0.1
    for t, (found, row) in enumerate(zip(rounds, history, strict=True)):
        measured = row.measured["momentum_cosine"]
        if t == 0:
            assert math.isnan(measured)
        else:
            last = rounds[t - 1]
            steps = np.array([2 * math.ceil(rr.SIZES[k] / 4) for k in last.ids])
            gradient = -(last.weights / (steps * 0.1)) @ last.updates
            each = [cosine(-u, gradient) for u in found.updates]
            assert measured == pytest.approx(np.mean(each), rel=1e-5)
        # Without momentum all clients count as agreeing: 1 - cosine is 0.
        disagree = 0.0 if t == 0 else 1.0 - measured
        alpha = 0.99 * alpha + 0.01 * min(max(disagree, 0.1), 0.9)
        assert float(row.scalars.removeprefix("alpha=")) == pytest.approx(alpha)


def test_momentum_of_a_servers_moment_has_the_sign_of_a_gradient() -> None:
    rounds, history = rr.recorded(fedfast.algorithms.by_name("fedavgm", beta=0.5))
    moment = np.zeros_like(rounds[0].mean)
    for found, row in zip(rounds, history, strict=True):
        if moment.any():
            expected = np.mean([cosine(u, moment) for u in found.updates])
            assert row.measured["momentum_cosine"] == pytest.approx(expected, rel=1e-5)
        moment = 0.5 * moment + found.mean


def measured(algorithm: Any, **more: Any) -> str:
    """The columns of all rounds as text: nan is equal to nan."""
    sim = rr.simulation(algorithm, **more)
    return repr([row.measured for row in sim.run(progress=False)])


@pytest.mark.parametrize("module", [None, normed()], ids=["mlp", "buffers"])
@pytest.mark.parametrize("name", ["fedavg", "fedgh", "fedgloss", "fedwmsam", "scaffold"])
def test_no_bit_depends_on_chunks_or_threads(name: str, module: nn.Module | None) -> None:
    more = dict(module=module, drop_last=True)  # BatchNorm takes no single sample
    whole = measured(name, **more)
    assert measured(name, chunk=1, **more) == whole
    assert measured(name, chunk=2, threads=2, **more) == whole


@pytest.mark.parametrize("name", ["fedavg", "fedgh", "fedgloss", "fedsam"])
def test_training_is_the_same_with_and_without(name: str) -> None:
    def left(**more: Any) -> tuple[list[Any], dict[str, torch.Tensor]]:
        sim = rr.simulation(name, **more)
        rows = sim.run(progress=False)
        return [(r.train_loss, r.update_norm, r.update_norm_sum) for r in rows], sim.state_dict()

    (rows, state), (plain_rows, plain) = left(), left(metrics=())
    assert rows == plain_rows
    assert all(torch.equal(state[k], plain[k]) for k in plain)


def test_nothing_watches_a_run_without_metrics() -> None:
    engine = rr.simulation("fedavg", metrics=())._engine
    assert engine.watch is None and type(engine.mean).__name__ == "Mean"


def test_models_beyond_the_bound_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of five: the first, the third and the fourth by id, wherever chunks are cut."""
    rounds, _ = rr.recorded("scaffold")
    row = rounds[0].updates.shape[1] * 4
    monkeypatch.setattr(measured_models, "KEPT", 3 * row + 1)
    more = dict(metrics=["conflicts"])
    whole = measured("scaffold", **more)
    assert measured("scaffold", chunk=2, **more) == whole
    history = rr.simulation("scaffold", chunk=1, **more).run(progress=False)
    for found, line in zip(rounds, history, strict=True):
        some = np.argsort(found.ids)[[0, 1, 3]]
        expected = rr.conflict_shares(found.updates[some], found.spans)
        assert line.measured["conflicts"] == pytest.approx(expected[0])
        assert line.measured["conflicts_tensors"] == pytest.approx(expected[1])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), clients=st.integers(2, 90))
def test_sums_are_those_of_the_gram_matrix(data: st.DataObject, clients: int) -> None:
    """Cosines and drift without a pair, for any chunks; clients that did not move have none."""
    draw = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    module = nn.Linear(5, 3).double()
    layout = FlatLayout.of(module, torch.float64, frozenset())
    seen = TrainedLayout.of(layout)
    updates = np.zeros((clients, layout.stride))
    real = seen.real(torch.device("cpu")).numpy()
    updates[:, real] = draw.normal(size=(clients, real.sum())) * draw.lognormal(size=(clients, 1))
    updates[:, real] += data.draw(st.sampled_from([0.0, 0.5, 20.0])) * draw.normal(size=real.sum())
    still = data.draw(st.sets(st.integers(0, clients - 1), max_size=clients - 2))
    updates[list(still)] = 0.0
    weights = draw.uniform(0.1, 1.0, clients)
    weights /= weights.sum()
    sent = torch.from_numpy(draw.normal(size=layout.stride) * real)
    watched = Watch(round_metrics(["cosine", "drift"]), seen, "auto")
    mean = WatchedMean(sent, seen, "auto", watched)
    algorithm, cohort = fedfast.algorithms.by_name("fedavg"), _cohort(weights)
    watched.begin(cohort, sent, False)
    at = 0
    while at < clients:
        part = slice(at, min(clients, at + data.draw(st.integers(1, clients))))
        models = sent + torch.from_numpy(updates[part])
        mean.add(models, torch.from_numpy(weights[part]), sent, Place(at, clients), None)
        at = part.stop
    watched.summed(mean.trained)
    server = type("Server", (), {"rows": {}, "m": None, "w": sent})()
    readings = watched.readings(algorithm, cohort, server, server, sent, mean.trained)
    found = readings.columns(arrays_of(*readings.tensors))
    gram = updates @ updates.T
    length = np.sqrt(np.diag(gram))
    moved = length > 0
    cosines = (gram / np.outer(np.where(moved, length, 1), np.where(moved, length, 1)))[moved]
    between = cosines[:, moved][np.triu_indices(moved.sum(), 1)]
    along = (gram @ weights)[moved] / length[moved] / np.sqrt(weights @ gram @ weights)
    far = weights @ np.diag(gram)
    expected = {"cosine_pairs": between.mean(), "cosine_global": along.mean()}
    expected |= {"drift_global": far, "drift_mean": far - weights @ gram @ weights}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9 * max(1.0, far)), name


def _cohort(weights: np.ndarray) -> Any:
    one = torch.from_numpy(weights)
    ids = np.arange(len(weights))
    return fedfast.algorithms.hooks.Cohort(
        0, 0.1, ids, one, one, one, one, 1, len(weights), 0, "auto"
    )


def test_a_client_that_diverges_counts_as_one_that_stays() -> None:
    xs, ys = arrays(rr.SIZES)
    xs[0] = xs[0] * 1e38
    broken, model = fedfast.FederatedData.from_arrays(xs, ys), nn.Sequential(nn.Linear(8, 4))
    settings = dict(rounds=2, participation=1.0, batch_size=4, lr=10.0, metrics=rr.ALL)
    sim = fedfast.Simulation(model, broken, on_divergence="continue", **settings)
    row = sim.run(progress=False)[0]
    assert row.status.startswith("diverged: client 0")
    assert math.isfinite(row.measured["cosine_pairs"]) and row.measured["conflicts"] <= 10 / 15
    sim = fedfast.Simulation(model, broken, **settings)
    stopped = sim.run(progress=False)[0].measured
    assert all(map(math.isnan, stopped.values())) and stopped.keys() == row.measured.keys()


# One's own


@measures("largest", "smallest")
def extremes(seen: SeenRound) -> dict[str, float]:
    """The longest and the shortest update."""
    return {"largest": seen.squares.max().sqrt(), "smallest": seen.squares.min().sqrt()}


@measures("furthest", "others")
def in_two_reads(seen: SeenRound) -> Iterator[Any]:
    """The longest update; the sum of all others."""
    (squares,) = yield [seen.squares]
    left = torch.arange(len(squares)) != int(squares.argmax())
    (rest, weights) = yield [seen.squares[left], seen.cohort.weights]
    assert len(weights) == len(squares)
    return {"furthest": squares.max() ** 0.5, "others": rest.sum()}


def test_a_function_of_ones_own_that_yields_is_sent_numbers_until_it_returns() -> None:
    rounds, history = rr.recorded("fedavg", metrics=["norm", in_two_reads, "drift"])
    for found, row in zip(rounds, history, strict=True):
        squares = np.sort((found.updates**2).sum(axis=1))
        assert row.measured["furthest"] == pytest.approx(squares[-1] ** 0.5)
        assert row.measured["others"] == pytest.approx(squares[:-1].sum())
        assert {"model_norm", "drift_mean"} < set(row.measured)


@measures("spoiled")
def spoils_its_own(seen: SeenRound) -> Iterator[Any]:
    """Changes the numbers that it is sent."""
    (squares,) = yield [seen.squares]
    squares *= 0.0
    return squares.sum()


def test_what_a_metric_is_sent_is_its_own() -> None:
    _, alone = rr.recorded("fedavg", metrics=["drift"])
    _, beside = rr.recorded("fedavg", metrics=[spoils_its_own, "drift"])
    for row, other in zip(alone, beside, strict=True):
        assert row.measured["drift_global"] == other.measured["drift_global"] > 0.0
        assert other.measured["spoiled"] == 0.0


@measures("length")
class Lengths:
    """One's own that yields, as a class."""

    def __call__(self, seen: SeenRound) -> Iterator[Any]:
        (squares,) = yield (seen.squares,)
        return squares.sum()


def test_an_object_that_yields_is_sent_numbers_too() -> None:
    rounds, history = rr.recorded("fedavg", metrics=[Lengths])
    for found, row in zip(rounds, history, strict=True):
        assert row.measured["length"] == pytest.approx((found.updates**2).sum())


@pytest.mark.parametrize("answer", ["seen.squares", "None", "[seen.plain]"])
def test_a_metric_that_yields_no_list_of_tensors_is_named(answer: str) -> None:
    def odd(seen: SeenRound) -> Iterator[Any]:
        yield eval(answer)

    with pytest.raises(TypeError, match="metrics: odd: expected it to yield lists of tensors; got"):
        rr.simulation("fedavg", metrics=[measures("odd")(odd)]).run(progress=False)


def test_a_round_that_comes_to_nothing_calls_no_metric_of_ones_own() -> None:
    called = []

    @measures("seen")
    def noted(seen: SeenRound) -> Iterator[Any]:
        called.append(seen)
        (squares,) = yield [seen.squares]
        return squares.sum()

    sim = rr.simulation("fedavg", metrics=[noted, "norm"], lr=3e38)
    row = sim.run(progress=False)[0]
    assert math.isnan(row.measured["seen"]) and not called


def count(seen: SeenRound) -> int:
    return len(seen.cohort)


def first(seen: SeenRound) -> float:
    return float(seen.models[0].sum())


def test_a_function_of_ones_own_fills_columns() -> None:
    rounds, history = rr.recorded("fedavg", metrics=[extremes, count])
    for found, row in zip(rounds, history, strict=True):
        length = np.linalg.norm(found.updates, axis=1)
        assert row.measured["count"] == len(found.ids)
        assert row.measured["largest"] == pytest.approx(length.max())
        assert row.measured["smallest"] == pytest.approx(length.min())


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        ("cosine", TypeError, "metrics: expected a list of names or functions"),
        ([3], TypeError, "metrics: expected names or functions; got 3"),
        (["cosin"], ValueError, "metrics: unknown name 'cosin'; did you mean 'cosine'"),
        ([lambda: 3.0], TypeError, "expected to be called with a round"),
        ([extremes, extremes], ValueError, "both fill the column 'largest'"),
        ([lambda seen: 3.0], ValueError, "metrics: expected names of columns .* got '<lambda>'"),
        (["nowhere:thing"], ValueError, "metrics nowhere:thing"),
    ],
)
def test_wrong_metrics_are_refused(wrong: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rr.simulation("fedavg", metrics=wrong)


@pytest.mark.parametrize("name", ["accuracy", "algorithm", "two words", ""])
def test_names_of_columns_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match="metrics: "):
        measures(name)
    with pytest.raises(ValueError, match="needs: expected some of directions, models"):
        measures("fine", needs=("updates",))


def test_what_a_metric_returns_is_checked() -> None:
    with pytest.raises(ValueError, match=r"metrics: expected seen\.models to be read by metrics"):
        rr.simulation("fedavg", metrics=[first]).run(progress=False)
    with pytest.raises(ValueError, match="metrics: other: expected a, b; got a"):
        other = measures("a", "b")(lambda seen: {"a": 1.0})
        other.__name__ = "other"
        rr.simulation("fedavg", metrics=[other]).run(progress=False)
    with pytest.raises(TypeError, match="metrics: text: expected numbers"):
        text = measures("text")(lambda seen: "many")
        text.__name__ = "text"
        rr.simulation("fedavg", metrics=[text]).run(progress=False)


def test_a_metric_is_registered_by_name() -> None:
    ROUND_METRICS.register("extremes of this test")(extremes)
    (found,) = round_metrics(["extremes of this test"])
    assert found.columns == ("largest", "smallest")
