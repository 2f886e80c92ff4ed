"""Scalars of the server that a round settles: on the CPU at once, on a device with its one wait."""

from __future__ import annotations

import pytest
import torch

from fedfast.algorithms import ServerView


def view() -> ServerView:
    made = ServerView()
    made.scalars, made.pending = {"alpha": 0.5, "rate": 1.0}, {}
    return made


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_scalar_is_a_number_at_once_on_the_cpu(shape: tuple[int, ...]) -> None:
    server = view()
    server.settle_scalar("alpha", torch.full(shape, 0.25))
    assert server.scalars == {"alpha": 0.25, "rate": 1.0} and not server.pending


def test_a_device_is_not_asked_and_nobody_reads_the_old_number() -> None:
    """A meta tensor has no number to give."""
    server = view()
    for _ in range(2):
        server.settle_scalar("alpha", torch.zeros(1, device="meta"))
    assert server.scalars == {"rate": 1.0}
    assert server.pending["alpha"].shape == ()


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("alhpa", torch.zeros(()), "name: expected one of alpha, rate; got 'alhpa'"),
        ("alpha", torch.zeros(2), r"value: expected one number; got a tensor of \(2,\)"),
    ],
)
def test_wrong_scalars_are_refused(name: str, value: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        view().settle_scalar(name, value)
