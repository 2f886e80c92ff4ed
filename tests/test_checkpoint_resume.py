"""A run that stops between two rounds, is saved and loaded, ends with the bits of one that did not
stop; what cannot be continued is refused by name."""

import itertools

import pytest
import torch
from federation import federation
from interrupts import SIZES, end_alike
from test_checkpoint import KINDS, simulation


@pytest.mark.parametrize("name", KINDS)
def test_a_run_in_two_parts_has_the_bits_of_one(tmp_path, name):
    """Stopped after round 3, saved, loaded into a new simulation, run to the end."""
    options = dict(algorithm=KINDS[name], eval_every=2)
    first, whole = simulation(**options), simulation(**options)
    for _ in itertools.islice(first, 3):
        pass
    first.save(tmp_path / "state.pt")
    parts = simulation(**options, chunk=1, threads=1)
    parts.load(tmp_path / "state.pt")
    assert end_alike(parts, whole)
    for a, b in zip(parts.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    if whole._personal.kept():
        for i in range(len(SIZES)):
            mine, other = parts.client_state_dict(i), whole.client_state_dict(i)
            assert all(torch.equal(mine[k], other[k]) for k in other)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(seed=1), "seed 1, found 0"),
        (dict(clients=federation([9, 9])), r"clients 2 with 18 samples, found 10 with 105 samples"),
        (dict(dtype=torch.float64), "dtype torch.float64"),
        (dict(algorithm="fedprox"), "algorithm FedProx"),
    ],
)
def test_another_run_is_refused(tmp_path, changed, message):
    simulation().save(tmp_path / "state.pt")
    with pytest.raises(ValueError, match=f"state.pt: expected a state of {message}"):
        simulation(**changed).load(tmp_path / "state.pt")


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "state.pt"
    simulation().save(path)
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(ValueError, match=r"state\.pt: not a saved simulation"):
        simulation().load(path)


def test_another_container_is_refused(tmp_path):
    torch.save({"format": 7}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="expected a saved simulation of format 1, found 7"):
        simulation().load(tmp_path / "state.pt")
