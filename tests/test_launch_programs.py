"""Launches fill the chip with 5, 10 and 100 clients, or few_programs.csv says why not.

Rounds of the benchmark's workloads, of real size, on a device without memory (`sized_cuda.py`).
"""

from __future__ import annotations

import pytest
from federation import federation, mlp
from fedfast.kernels.triton import common, products

pytest.importorskip("triton", reason="Triton is not installed on this platform")

import host_cuda  # noqa: E402
import launch_programs  # noqa: E402
import sized_cuda  # noqa: E402
from emulated_cuda import Device  # noqa: E402
from launch_programs import REASONS, Key  # noqa: E402
from sized_cuda import Sized  # noqa: E402

pytestmark = pytest.mark.skipif(
    not common.INTERPRETED, reason="kernels run in Triton's interpreter, on a device of its own"
)


def test_launches_fill_the_chip_or_have_a_reason(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Those of the table and no others, with as many programs as it says."""
    built = host_cuda.module(tmp_path_factory.getbasetemp().parent)
    found = launch_programs.fewest() | launch_programs.resident(built.plan)
    assert found == {key: least for key, least, _ in launch_programs.table()}


def test_every_reason_is_one_of_the_known_and_used() -> None:
    assert {reason for _, _, reason in launch_programs.table()} == REASONS.keys()


def test_a_planted_larger_tile_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    key, least, _ = next(row for row in launch_programs.table() if row[0].workload == "W3")
    assert key == Key("W3", "step", "linear", "_product", "10x200")
    monkeypatch.setattr(products, "LONG", 64)
    found = launch_programs.seen.__wrapped__("W3", 10)
    few = [each.programs for each in found if launch_programs.is_few(each)]
    assert min(few) < least[10]


class Real(Sized):
    """With memory, as emulated devices are."""

    run, clear = Device.run, Device.clear


def test_a_device_without_memory_launches_what_one_with_memory_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same kernels with as many programs and bytes, one after another."""
    found = []
    monkeypatch.setattr(sized_cuda, "LARGE", 256)  # bytes
    for device in (Sized, Real):
        monkeypatch.setattr(sized_cuda, "Sized", device)
        seen = sized_cuda.launches(mlp(), federation([8, 8, 8]), "fedsam", 4)
        found.append([(e.phase, e.operation, e.name, e.programs, e.bytes) for e in seen])
    assert found[0] == found[1] and len(found[0]) > 40
