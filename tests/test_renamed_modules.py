"""Names of before 0.2 still work, and warn."""

import importlib
import sys

import pytest

import fedfast
from fedfast import client_sampling, lr_schedules
from fedfast.algorithms import hooks


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
