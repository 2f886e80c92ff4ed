"""A batch of one sample under BatchNorm is reported before round 1; `drop_last` leaves such out."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from federation import federation, trained
from torch import nn

import fedfast
from fedfast.model_inspection import Traits
from fedfast.module_executor import ModuleExecutor


def flat_norm():
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 4))


def map_norm():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4))


def simulate(model, sizes, shape=(8,), **kwargs):
    settings = dict(rounds=1, participation=1.0, batch_size=4, device="cpu")
    data = federation(sizes, shape=shape)
    return fedfast.Simulation(model, data, "fedavg", **(settings | kwargs))


@pytest.mark.parametrize("loss", ["cross_entropy", lambda a, b: F.cross_entropy(a, b)])
@pytest.mark.parametrize("sizes", [[8, 9, 4], [4, 1, 4], [8, 4, 5]])
def test_both_paths_name_the_client_and_the_remedy(loss, sizes):
    who = next(i for i, n in enumerate(sizes) if n % 4 == 1)
    with pytest.raises(ValueError, match=rf"batch_size: client {who} .*one sample.*drop_last=True"):
        simulate(flat_norm(), sizes, loss=loss)


def test_explicit_schedules_are_searched():
    schedule = fedfast.Schedule.explicit([[0], [1]], [[[[0, 1]]], [[[0, 1], [2]]]])
    with pytest.raises(ValueError, match=r"client 1 \(round 1, step 1\)"):
        simulate(flat_norm(), [4, 4], schedule=schedule)


def test_what_can_be_trained_on_one_sample_is():
    simulate(map_norm(), [8, 9], shape=(1, 4, 4)).run(progress=False)  # 2 x 2 values per channel
    simulate(nn.Sequential(nn.Linear(8, 4)), [9, 1]).run(progress=False)
    simulate(flat_norm(), [8, 10]).run(progress=False)


def test_one_pixel_maps_are_refused():
    model = nn.Sequential(nn.Conv2d(1, 4, 4), nn.BatchNorm2d(4), nn.Flatten())
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        simulate(model, [9, 8], shape=(1, 4, 4))


def test_drop_last_is_the_remedy():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sim = simulate(flat_norm(), [9, 8], drop_last=True)
    row = next(iter(sim))
    assert row.status == "ok" and row.samples == 16


def test_clients_without_a_whole_batch_are_skipped_or_refused():
    with pytest.warns(UserWarning, match="drop_last: 1 of 3 clients.*client 1 with 3"):
        sim = simulate(flat_norm(), [9, 3, 8], drop_last=True)
    row = next(iter(sim))
    assert row.clients == 2 and row.samples == 16
    with pytest.raises(ValueError, match="drop_last: 1 of 3 clients"):
        simulate(flat_norm(), [9, 3, 8], drop_last=True, empty_clients="refuse")
    with pytest.raises(ValueError, match="drop_last: every client has fewer"):
        simulate(flat_norm(), [3, 2], drop_last=True)


@pytest.mark.parametrize("size, batch", [(9, 4), (8, 4), (4, 4), (7, 3), (5, 1)])
def test_drop_last_takes_as_many_batches_as_a_data_loader(size, batch):
    loader = torch.utils.data.DataLoader(range(size), batch, drop_last=True)
    schedule = draw([size], batch_size=batch, local_epochs=2)
    index, count = schedule.round(0).batches([0])
    assert count[0].tolist() == [len(b) for b in loader] * 2
    for epoch in index[0].view(2, -1):
        assert len(set(epoch.tolist())) == len(loader) * batch


def test_without_a_batch_size_nothing_is_dropped_and_whole_epochs_stay_the_same():
    assert draw([5], batch_size=None).round(0).batches([0])[1].tolist() == [[5]]
    one, other = (draw([8, 12], batch_size=4, drop_last=d).round(1) for d in (True, False))
    assert torch.equal(one.batches([0, 1])[0], other.batches([0, 1])[0])


def draw(sizes, **kwargs):
    settings = dict(rounds=3, participation=1.0, local_epochs=1, batch_size=4, seed=0)
    return fedfast.Schedule.draw(sizes, **(settings | dict(drop_last=True) | kwargs))


HOSTILE = {
    "rounds": [10**18, True, -1],
    "local_epochs": [10**18, 2.0],
    "batch_size": [0, True],
    "participation": ["all", True, float("nan"), None],
    "sampling": [["exact"]],
    "drop_last": [1, "no"],
    "sizes": [
        [],
        5,
        "12",
        None,
        [[1, 2]],
        [1.5],
        [True, 8],
        [-1, 8],
        [0, 0],
        [10**18],
        [2**70],
        {8},
    ],
}


@pytest.mark.parametrize(("name", "bad"), [(n, v) for n, vs in HOSTILE.items() for v in vs])
def test_hostile_values_of_a_drawn_schedule_are_named(name, bad):
    how = dict(sizes=bad, drop_last=False) if name == "sizes" else {"sizes": [8, 9], name: bad}
    with pytest.raises((ValueError, TypeError), match=f"^{name}:"):
        draw(**how)


@pytest.mark.parametrize(
    ("cohorts", "batches"),
    [
        (5, []),
        ("ab", [[], []]),
        ([0], [[[[1]]]]),
        ([[0, 0]], [[[[1]], [[1]]]]),
        ([[True]], [[[[1]]]]),
        ([[]], [[]]),
        ([[2**70]], [[[[1]]]]),
    ],
)
def test_hostile_cohorts_of_an_explicit_schedule_are_named(cohorts, batches):
    with pytest.raises((ValueError, TypeError), match="^cohorts"):
        fedfast.Schedule.explicit(cohorts, batches)


BATCHES = [None, 7, [], [5], [[5]], [[[5]]], [[[]]]]
BATCHES += [[[[one]]] for one in ([[5]], [], [-1], [1.0], [True], [1, [2]], "12", [None])]


@pytest.mark.parametrize("batches", BATCHES)
def test_hostile_batches_of_an_explicit_schedule_are_named(batches):
    with pytest.raises((ValueError, TypeError), match="^batches"):
        fedfast.Schedule.explicit([[0]], batches)


def test_arrays_and_tensors_are_lists_too():
    batches = np.zeros((1, 1, 2, 3), dtype=np.int32)
    schedule = fedfast.Schedule.explicit(np.array([[0]]), batches)
    assert schedule.width == 3
    assert fedfast.Schedule.explicit([torch.tensor([0])], [[[range(3)]]]).width == 3


def test_fine_tuning_meets_no_single_sample_unawares():
    tuned = fedfast.algorithms.FedAvg(fine_tune=fedfast.algorithms.FineTune())
    schedule = fedfast.Schedule.explicit([[0, 1]], [[[[0, 1, 2, 3]], [[0, 1]]]])
    data = federation([9, 4])
    with pytest.raises(ValueError, match="client 0 .9 samples in batches of 4"):
        fedfast.Simulation(flat_norm(), data, tuned, schedule=schedule, device="cpu")
    how = dict(rounds=1, participation=1.0, batch_size=4, drop_last=True, device="cpu")
    sim = trained(flat_norm(), data, tuned, **how)
    assert sim.client_state_dict(0).keys() == flat_norm().state_dict().keys()


def test_running_statistics_of_clients_side_by_side_do_not_spoil_each_others_graph():
    """Two threads on views of one bank: each view counts its own versions."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    layout = fedfast.FlatLayout.of(net, torch.float64, {"2.running_mean", "2.running_var"})
    traits = Traits(2, False, 1.0, frozenset())
    executor = ModuleExecutor(net.double(), layout, nn.functional.cross_entropy, 2, traits)
    bank = layout.bank(2)
    bank[:] = layout.flatten(net)
    one, other = (executor.row_views(bank, k, False) for k in range(2))
    weight = one["0.weight"].detach().requires_grad_()
    value = (weight**2).sum()
    other["2.running_mean"].add_(1.0)  # what a forward pass of the other client does
    (found,) = torch.autograd.grad(value, [weight])
    assert torch.equal(found, 2 * weight.detach())
    assert bank[1, layout.slots[-2].offset] == 1.0 or bool((bank[1] != bank[0]).any())
