"""Names of before 0.2 still work, and warn."""

import importlib
import sys

import pytest
import torch

import fedfast
from fedfast import _renamed_modules, algorithms, client_sampling, data, lr_schedules
from fedfast.algorithms import hooks
from fedfast.rounds import Explicit


@pytest.mark.parametrize(
    ("old", "name", "expected"),
    [
        ("fedfast.annealing", "Ramp", lr_schedules.Ramp),
        ("fedfast.schedule", "Schedule", fedfast.Schedule),
        ("fedfast.schedule", "Schedule", client_sampling.Schedule),
        ("fedfast.algorithms.pieces", "Clients", hooks.Clients),
    ],
)
def test_a_renamed_module_is_found_under_its_old_name(old, name, expected, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is now fedfast"):
        module = importlib.import_module(old)
    assert getattr(module, name) is expected


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="fedfast.anneal"):
        importlib.import_module("fedfast.anneal")


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [(m, old, new) for m, names in _renamed_modules.NAMES.items() for old, new in names.items()],
)
def test_a_renamed_name_is_found_in_its_old_module(module, old, new):
    namespace = {}
    with pytest.warns(DeprecationWarning) as caught:  # the module itself may be renamed
        exec(f"from {module} import {old}", namespace)
    assert str(caught[-1].message) == f"{module}.{old} is now {new}"
    assert caught[-1].filename == "<string>"
    home, _, name = new.rpartition(".")
    assert namespace[old] is getattr(importlib.import_module(home), name)
    with pytest.raises(ImportError, match="never_was"):
        exec(f"from {module} import never_was")


def test_renamed_attributes_and_arguments():
    with pytest.warns(DeprecationWarning, match="FedAvg.pieces is now components"):
        made = algorithms.FedAvg()
        assert made.pieces == made.components
    how, source = (torch.float32, torch.device("cpu")), Explicit([[0]], [[[[0]]]], width=1)
    with pytest.warns(DeprecationWarning, match="Normalize.tones is now scale_and_shift"):
        assert data.Normalize().tones(*how) == data.Normalize().scale_and_shift(*how)
    with pytest.warns(DeprecationWarning, match="plan is now source"):
        assert fedfast.Schedule(plan=source)._source is source
