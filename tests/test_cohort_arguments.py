"""Arguments of `Cohort` that are refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from federation import federation, mlp
from torch import nn

import fedfast
from fedfast.cohort_options import CohortOptions
from fedfast.declarations import declarations
from fedfast.options import SimulationOptions

SIZES = [9, 14, 5, 7]
STEPS = [[[0, 1], [2]]] * 4

CALLS = {
    "twice": (dict(ids=[1, 1]), "ids: expected each client once; got 1 twice"),
    "unknown": (dict(ids=[1, 4]), "ids: expected clients numbered from 0 to 3; got 4"),
    "below": (dict(ids=[-1]), "ids: expected values >= 0; got -1"),
    "none": (dict(ids=[]), "ids: expected a non-empty list"),
    "floats": (dict(ids=[0.5]), "ids: expected integers; got dtype float64"),
    "text": (dict(ids="abc"), "ids: expected a list of integers"),
    "rate": (dict(lr=0.0), "lr: expected a number above 0; got 0.0"),
    "rates": (dict(lr=[0.1, 0.2]), "lr: expected one per client, 4; got 2"),
    "a rate": (dict(lr=[0.1, 0.1, -1.0, 0.1]), r"lr\[2\]: expected a number above 0; got -1.0"),
    "nan": (dict(lr=torch.tensor(torch.nan)), "lr: expected a finite number; got nan"),
    "no rate": (dict(lr="fast"), "lr: expected a number; got 'fast'"),
    "epochs": (dict(epochs=0), "epochs: expected at least 1; got 0"),
    "an epoch": (dict(epochs=[1, 1.5, 1, 1]), r"epochs\[1\]: expected an integer; got 1.5"),
    "both": (dict(epochs=2, batches=STEPS), "epochs: expected None where batches are given"),
    "round": (dict(round=-1), "round: expected 0 <= round"),
    "no round": (dict(round=True), "round: expected an integer; got True"),
    "no data": (dict(data=[]), "data: expected at least one client; got none"),
    "a number": (dict(data=3), "data: expected a sequence with one entry per client"),
    "rows": (dict(lr=[[1, 2]] * 4), r"lr\[0\]: expected a number; got \[1, 2\]"),
    "steps": (dict(batches=STEPS[:2]), "batches: expected a list of steps for each of 4 clients"),
    "a step": (
        dict(batches=[[[0, 1]], 3, [], []]),
        r"batches\[1\]: expected a list of steps; got 3",
    ),
    "index": (
        dict(batches=[[[0]], [[0, 14]], [], []]),
        "client 1, step 0: index 14; the client has",
    ),
    "array": (dict(batches=[[np.array([9])], [], [], []]), "client 0, step 0: index 9; the client"),
    "empty": (dict(batches=[[[0], []], [], [], []]), r"batches\[0\]\[1\]: expected a non-empty"),
    "negative": (dict(batches=[[[-1]], [], [], []]), r"batches\[0\]\[0\]: expected values >= 0"),
}


@pytest.mark.parametrize("case", CALLS)
def test_arguments_of_a_call_are_refused_by_name(case):
    given, match = CALLS[case]
    made = fedfast.Cohort(mlp(), federation(SIZES), batch_size=4, threads=1)
    before = made.train()
    with pytest.raises((TypeError, ValueError), match=match):
        made.train(**given)
    assert before.models.isfinite().all()  # still there


MADE = [
    (dict(model="mlp"), "model: expected an nn.Module; got 'mlp'"),
    (dict(data=[1, 2]), "data: expected FederatedData, or None"),
    (dict(algorithm="fedavgg"), "did you mean 'fedavg'"),
    (dict(algorithm="centralized"), "'centralized' pools their samples"),
    (dict(algorithm="fedsgd"), "batch_size: fedsgd takes all local data at once"),
    (dict(population=3), "population: expected at least 4, the clients of data; got 3"),
    (dict(dtype=torch.float16), "dtype: expected torch.float32 or torch.float64"),
    (dict(seed=-1), "seed: expected 0 <= seed"),
    (dict(lrr=0.1), r"Cohort\(\) got an unexpected keyword argument 'lrr'; did you mean 'lr'"),
    (dict(participation=0.5), "unexpected keyword argument 'participation'"),
    (
        dict(data=fedfast.FederatedData.from_arrays([torch.ones(2, 5)], [torch.arange(2)])),
        "model: ",
    ),
]


@pytest.mark.parametrize(("given", "match"), MADE)
def test_options_are_refused_by_name(given, match):
    options = dict(model=mlp(), data=federation(SIZES)) | given
    with pytest.raises((TypeError, ValueError), match=match):
        fedfast.Cohort(**options)


def test_without_samples_of_its_own_a_call_needs_some():
    made = fedfast.Cohort(mlp(), threads=1)
    with pytest.raises(ValueError, match="data: the cohort has none of its own"):
        made.train([0])
    with pytest.raises(ValueError, match="data: expected samples in the first call; got none"):
        made.train(data=[(torch.ones(0, 8), torch.ones(0))])
    with pytest.raises(ValueError, match="ids: expected clients numbered from 0 to 16777215"):
        made.train([1 << 40], data=[(torch.ones(2, 8), torch.tensor([0, 1]))])


def test_batches_of_one_sample_are_refused_where_the_model_cannot_take_them():
    net = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 4))
    data = federation([9, 8])
    made = fedfast.Cohort(net, data, batch_size=4, threads=1)
    with pytest.raises(ValueError, match=r"batch_size: client 0 \(9 samples\) has a batch of one"):
        made.train()
    with pytest.raises(ValueError, match="client 1"):
        made.train([1], batches=[[[0, 1], [3]]])
    assert made.train([1]).steps.tolist() == [2]
    assert fedfast.Cohort(net, data, batch_size=4, drop_last=True).train().steps.tolist() == [2, 2]


def test_every_option_is_declared_as_the_simulations_is():
    there = {option.name: option for option in declarations(SimulationOptions)}
    for option in declarations(CohortOptions):
        if option.name not in ("data", "population"):
            assert option == there[option.name]
