"""State that goes in and out of a `Cohort`, calls that are broken off, and calls side by side."""

from __future__ import annotations

import threading

import pytest
import torch
from federation import federation, mlp
from torch import nn

import fedfast
from fedfast.algorithms.lookup import names
from fedfast.client_loop import LocalTrainer

SIZES = [9, 14, 5, 7]
KEEPING = ["scaffold", "feddyn", "fedsmoo", "fedgloss", "mofedsam", "fedala", "fedadam", "fedwmsam"]


def cohort(algorithm="fedavg", **options):
    given = dict(batch_size=4, lr=0.2, threads=1) | options
    return fedfast.Cohort(mlp(), federation(SIZES), algorithm, **given)


def alike(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(v, other[n]) if isinstance(v, torch.Tensor) else v == other[n]
        for n, v in one.items()
    )


def play(made, rounds, first=0):
    for t in range(first, first + rounds):
        made.step(made.train([t % 4, (t + 1) % 4], round=t))
    return made


@pytest.mark.parametrize("algorithm", KEEPING)
def test_a_cohort_goes_on_from_the_state_of_another(algorithm):
    whole, begun, other = play(cohort(algorithm), 5), play(cohort(algorithm), 3), cohort(algorithm)
    other.load_state_dict(begun.state_dict())
    other.load_server_state(begun.server_state())
    for i in range(4):
        other.load_client_state(i, begun.client_state(i))
    play(other, 2, first=3)
    assert alike(whole.state_dict(), other.state_dict())
    assert alike(whole.server_state(), other.server_state())
    assert all(alike(whole.client_state(i), other.client_state(i)) for i in range(4))


@pytest.mark.parametrize("algorithm", [n for n in names() if n not in ("centralized", "fedcr")])
def test_no_two_things_that_are_kept_have_one_name(algorithm):
    made = cohort(algorithm, batch_size=None if algorithm == "fedsgd" else 4)
    made.train([1])
    engine, kept = made._parts.engine, made.server_state()
    assert len(kept) == len(engine.state.tensors()) - 1 + len(engine.state.scalars)
    clients = engine.clients
    assert len(made.client_state(1)) == len(clients.first) + len(clients.values)


def test_a_client_can_be_forgotten():
    made = play(cohort("scaffold"), 4)
    fresh, before = cohort("scaffold"), made.client_state(1)
    fresh.load_state_dict(made.state_dict())
    fresh.load_server_state(made.server_state())
    made.load_client_state(1, {})
    assert made.client_state(1) == {} and before["c_i"].any()
    one, other = made.train([1], round=9), fresh.train([1], round=9)
    assert torch.equal(one.models, other.models)
    assert torch.equal(made.client_state(1)["c_i"], fresh.client_state(1)["c_i"])
    assert all(made.client_state(i) for i in (0, 2, 3))


@pytest.mark.parametrize("algorithm", [n for n in names() if n not in ("centralized", "fedcr")])
def test_any_algorithm_takes_a_clients_state_in_any_order_and_forgets_it(algorithm):
    batch = None if algorithm == "fedsgd" else 4
    keeping = fedfast.algorithms.by_name(algorithm, keep_models=True)
    made, other = cohort(keeping, batch_size=batch), cohort(keeping, batch_size=batch)
    made.train([1])
    state = made.client_state(1)
    other.load_client_state(1, dict(reversed(state.items())))
    other.load_client_state(2, state)
    other.load_client_state(2, {})
    assert alike(other.client_state(1), state) and other.client_state(2) == {}


def test_a_row_is_the_state_dict_it_was_made_of():
    net, made = mlp(seed=4), cohort()
    row = made.layout.flatten(net)
    one = made.train(state=net.state_dict(), round=0).models.clone()
    halves = {name: v.double() for name, v in net.state_dict().items()}
    for state in (row, halves, {n: v.numpy() for n, v in net.state_dict().items()}):
        update = made.train(state=state, round=0)
        assert torch.equal(update.models, one) and torch.equal(update.start, row)
    assert alike(made.state_dict(), mlp().state_dict())  # a state of a call is not the cohort's
    padded = row.clone()
    padded[row == 0] = 5.0
    assert torch.equal(made.train(state=padded, round=0).models, one)


def test_the_state_given_is_what_the_step_follows_from():
    net, made = mlp(seed=4), cohort(server_lr=0.5)
    update = made.train(state=net.state_dict())
    expected = update.start + 0.5 * (update.mean() - update.start)
    made.step(update)
    found = made.layout.flatten(made._parts.design.module) * 0 + made._parts.engine.state.row
    assert torch.allclose(found, expected, atol=1e-7)


def state(**changed):
    return {**mlp().state_dict(), **changed}


def without(name):
    held = state()
    del held[name]
    return held


BAD_STATES = [
    (without("1.bias"), r"'1.bias' \[7\]; it is missing"),
    (state(**{"1.wieght": torch.ones(2)}), "no tensor '1.wieght'; did you mean '1.weight'"),
    (state(**{"1.bias": torch.ones(3)}), r"expected '1.bias' \[7\]; got \[3\]"),
    (state(**{"1.bias": [1.0]}), r"expected '1.bias' \[7\]; got \[1.0\]"),
    (state(**{"3.bias": torch.full((4,), torch.nan)}), "expected finite values; '3.bias' has"),
    (torch.ones(7), r"expected a row \[192\]; got \[7\]"),
    ("text", "expected a state_dict or a row"),
]


@pytest.mark.parametrize(("given", "match"), BAD_STATES)
def test_states_that_do_not_fit_are_named(given, match):
    made = cohort()
    kept = made.train()
    for call in (lambda: made.train(state=given), lambda: made.load_state_dict(given)):
        with pytest.raises((TypeError, ValueError), match="state: .*" + match):
            call()
    assert kept.models.isfinite().all()  # refused before it was overwritten
    assert alike(made.state_dict(), mlp().state_dict())


def test_frozen_tensors_of_a_state_are_the_models_own():
    net = mlp()
    net[1].requires_grad_(False)
    made = fedfast.Cohort(net, federation(SIZES), batch_size=4, threads=1)
    made.train(state=net.state_dict())
    with pytest.raises(ValueError, match="state: '1.bias' is frozen and stays as the model had it"):
        made.train(state={**net.state_dict(), "1.bias": torch.ones(7)})


def test_kept_state_that_does_not_fit_is_named():
    made = play(cohort("scaffold"), 2)
    before = made.server_state(), made.client_state(1)
    for given, match in [
        ({}, r"server_state: expected \['c'\]; 'c' is missing"),
        ({"c": torch.ones(3)}, r"server_state\['c'\]: expected a tensor \[192\]; got \[3\]"),
        ({"c": before[0]["c"], "d": 1}, r"server_state: expected \['c'\]; got 'd'"),
        (3, "server_state: expected a dict of tensors; got 3"),
    ]:
        with pytest.raises((TypeError, ValueError), match=match):
            made.load_server_state(given)
    with pytest.raises(ValueError, match=r"client_state: expected \['c_i'\]; got 'h'"):
        made.load_client_state(1, {"h": torch.ones(192)})
    with pytest.raises(ValueError, match="expected 0 <= i < 4; got 4"):
        made.load_client_state(4, {})
    assert alike(made.server_state(), before[0]) and alike(made.client_state(1), before[1])


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_call_that_is_broken_off_changes_nothing(monkeypatch, error):
    made, other = play(cohort("scaffold", chunk=1), 2), play(cohort("scaffold", chunk=1), 2)
    before = [made.client_state(i) for i in range(4)]
    train, calls = LocalTrainer.train, []

    def broken(*args):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return train(*args)

    with monkeypatch.context() as patch:
        patch.setattr(LocalTrainer, "train", broken)
        with pytest.raises(error):
            made.train()
    assert all(alike(made.client_state(i), before[i]) for i in range(4))
    assert alike(play(made, 2, 2).state_dict(), play(other, 2, 2).state_dict())


def test_before_its_first_samples_a_cohort_has_only_its_model():
    made = fedfast.Cohort(mlp(), threads=1)
    assert alike(made.state_dict(), mlp().state_dict())
    for ask in (lambda: made.layout, lambda: made.chunk, made.server_state):
        with pytest.raises(RuntimeError, match="data: the cohort was made without samples"):
            ask()


def test_calls_of_two_cohorts_in_two_threads_wait_for_each_other():
    alone = [play(cohort(name), 4).state_dict() for name in ("scaffold", "fedsam")]
    made = [cohort(name) for name in ("scaffold", "fedsam")]
    threads = [threading.Thread(target=play, args=(c, 4)) for c in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(alike(c.state_dict(), d) for c, d in zip(made, alone, strict=True))


def test_a_second_call_of_the_same_cohort_is_refused_while_it_trains():
    inside, leave = threading.Event(), threading.Event()

    def loss(z, y):
        inside.set()
        assert leave.wait(60)
        return nn.functional.cross_entropy(z, y)

    leave.set()
    made = cohort(loss=loss)
    leave.clear(), inside.clear()
    thread = threading.Thread(target=made.train)
    thread.start()
    assert inside.wait(60)
    with pytest.raises(RuntimeError, match="cohort: it is training already"):
        made.train()
    leave.set()
    thread.join()
    made.train()
