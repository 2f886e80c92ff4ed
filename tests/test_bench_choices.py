"""The campaign's section `choices`: which rows it writes, and what its trials refuse.

Times are made up here, by the name of the backend; everything else is as on a GPU.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fedfast.kernels import choices_file, registry
from fedfast.kernels.choices import Shape
from fedfast.kernels.library import linear as library
from fedfast.kernels.triton import common
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed on this platform")
sys.path.append(str(Path(__file__).parents[1] / "bench"))

from gpu_sections import choices, trials  # noqa: E402
from gpu_sections.campaign import Campaign  # noqa: E402
from gpu_sections.products import Layer, Operands  # noqa: E402

pytestmark = pytest.mark.skipif(not common.INTERPRETED, reason="sizes are those of a rehearsal")
CPU = torch.device("cpu")
MACHINE = "some GPU", "some versions"
DENSE = Layer("fc", Shape(3, (5,), 4), True, "relu", True)
SEVERAL = (1, 5, 6, 7)
Times = Callable[[str, int, str], float]


@dataclass
class Clocked(Campaign):
    """A campaign whose calls take as long as `times` says: of (backend, clients, precision)."""

    times: Times = lambda *_: 1.0

    @property
    def timed(self) -> bool:
        """Times are made up, and wanted."""
        return True

    def seconds(self, action: Any, copies: int = 1) -> float:
        before = list(CALLS)
        action(0)
        (call,) = CALLS[len(before) :]
        return self.times(*call)


CALLS: list[tuple[str, int, str]] = []


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Times], Clocked]:
    """Runs the section for the input gradient of one dense layer, of 6 and 12 clients."""
    call = Operands.call

    def noted(self: Operands, part: str, backend: str, precision: str) -> tuple[Tensor, ...]:
        if part == "data":
            CALLS.append((backend, len(self.x), precision))
        return call(self, part, backend, precision)

    def run(times: Times) -> Clocked:
        made = Clocked(CPU, tmp_path / "gpu.csv", False, {}, times=times)
        choices.run(made)
        return made

    monkeypatch.setattr(Operands, "call", noted)
    monkeypatch.setattr(registry, "machine", lambda _: MACHINE)
    monkeypatch.setattr(Layer, "parts", ("data",))
    monkeypatch.setattr(choices, "layers", lambda _: [DENSE])
    monkeypatch.setattr(choices, "_several", lambda _: (6, 12))
    monkeypatch.setattr(Clocked, "copies", lambda *_: 1)
    monkeypatch.setattr(choices_file, "PATH", tmp_path / "kept.csv")
    choices_file.PATH.write_text(choices_file.text(choices_file.Table()), encoding="utf-8")
    return run


def written(campaign: Campaign) -> list[tuple[str, str, tuple[int, ...], float]]:
    path = campaign.beside("choices.csv")
    rows = choices_file.read(path) if path.exists() else ()
    return [(row.precision, row.candidate, row.verified, row.gain) for row in rows]


def test_the_fastest_at_its_least_gain_is_chosen(section: Callable[[Times], Clocked]) -> None:
    """Of two that are faster at every K; not one that is faster at most of them."""
    fast = {("cublas-1", 6): 0.2, ("cublas-1", 12): 0.96, ("cublas-5", 6): 0.8}
    fast |= {("cublas-5", 12): 0.5, ("cublas-10", 6): 0.9, ("cublas-10", 12): 0.4}

    def times(backend: str, clients: int, precision: str) -> float:
        return fast.get((backend, clients), 1.0) if precision == "tf32" else 1.0

    campaign = section(times)
    several = (1, 4, 5, 6, 9, 10, 11, 12)
    triton = "tf32x3", "triton", (), 1.0
    assert written(campaign) == [triton, ("tf32", "cublas-5", several, 1.25)]
    with campaign.path.open(newline="") as file:
        chosen = [row["value"] for row in csv.DictReader(file) if row["measure"] == "chosen"]
    assert chosen == ["triton", "cublas-5"]


def test_a_candidate_that_is_refused_leaves_its_place(
    section: Callable[[Times], Clocked], monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuBLAS in blocks of 5 gives a client other bits where several are trained."""
    filled, times = library.filled, {"cublas-5": 0.1, "cublas-1": 0.5}

    def by_company(t: Tensor, size: int) -> Tensor:
        return filled(t, size) * (1 + 1e-6 * (size == 5 and len(t) > 1))

    monkeypatch.setattr(library, "filled", by_company)
    campaign = section(lambda backend, *_: times.get(backend, 1.0))
    assert [row[:2] for row in written(campaign)] == [("tf32x3", "cublas-1"), ("tf32", "cublas-1")]
    with campaign.path.open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["measure"] == "refused"]
    assert "client 0 of 4 is not the client alone" in {row["value"] for row in found}


def test_parts_in_which_a_candidate_could_not_run_stay_open(
    section: Callable[[Times], Clocked], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where memory was short: another campaign tries them again."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)

    def times(backend: str, clients: int, precision: str) -> float:
        if backend == "cublas-5" and precision == "tf32":
            raise RuntimeError("out of memory")
        return 1.0

    assert written(section(times)) == [("tf32x3", "triton", (), 1.0)]


def test_rows_join_the_repositorys(section: Callable[[Times], Clocked]) -> None:
    """Those of other devices stay."""
    campaign = section(lambda backend, *_: 0.5 if backend == "cublas-1" else 1.0)
    choices.keep(campaign)
    kept = choices_file.PATH.read_text(encoding="utf-8")
    assert kept == campaign.beside("choices.csv").read_text(encoding="utf-8")
    other = kept.replace("some GPU", "another GPU").splitlines(keepends=True)
    choices_file.PATH.write_text("".join(other), encoding="utf-8")
    choices.keep(campaign)
    assert choices_file.PATH.read_text(encoding="utf-8").splitlines() == [
        *"".join(other).splitlines(),
        *kept.splitlines()[1:],
    ]


def test_a_second_call_goes_on_where_the_first_one_ended(
    section: Callable[[Times], Clocked], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is timed again that has a row here or in the repository, Triton's among them."""
    campaign = section(lambda backend, *_: 0.5 if backend == "cublas-1" else 1.0)
    first, timed = written(campaign), len(CALLS)
    choices.keep(section(lambda *_: 1.0))
    assert len(CALLS) == timed and written(campaign) == first
    campaign.beside("choices.csv").unlink()
    assert written(section(lambda *_: 1.0)) == [] and len(CALLS) == timed
    choices_file.PATH.write_text(choices_file.text(choices_file.Table()), encoding="utf-8")
    slow = [("tf32x3", "triton", (), 1.0), ("tf32", "triton", (), 1.0)]
    assert written(section(lambda *_: 1.0)) == slow and len(CALLS) > timed
    timed = len(CALLS)
    assert written(section(lambda *_: 0.1)) == slow and len(CALLS) == timed
    monkeypatch.setattr(registry, "machine", lambda _: ("some GPU", "other versions"))
    assert len(written(section(lambda *_: 1.0))) == 4 and len(CALLS) > timed


PLANTED = {
    "once": "client 0 of 1 is not the client alone",
    "place": "client 1 of 5 is not the client alone",
    "company": "client 0 of 5 is not the client alone",
    "spill": "client 0 is another beside a diverged one",
    "rough": "error",
}


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_faults_are_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not deterministic, or whose clients know of each other."""
    calls: list[int] = []
    bmm = torch.bmm

    def product(a: Tensor, b: Tensor) -> Tensor:
        calls.append(len(calls))
        found = bmm(a, b)
        used = a.flatten(1).abs().sum(1) != 0
        if fault == "once" and len(calls) == len(SEVERAL) + 4:
            found = found * (1 + 1e-6)
        elif fault == "place":
            found[1:] *= 1 + 1e-6
        elif fault == "company":
            found = found * (1 + 1e-6 * float(used.sum() > 1))
        elif fault == "spill" and bool(found.isnan().any()):
            found = torch.full_like(found, float("nan"))
        elif fault == "rough":
            found = found * (1 + 1e-4)
        return found

    torch.manual_seed(0)
    operands = Operands(DENSE, 7, CPU)
    assert trials.refused(operands, "fp32", "data", "cublas-5", SEVERAL) == ""
    monkeypatch.setattr(torch, "bmm", product)
    found = trials.refused(operands, "fp32", "data", "cublas-5", SEVERAL)
    assert found.startswith(PLANTED[fault]), found


def test_numbers_of_clients_that_are_tried() -> None:
    assert trials.several_tried(100, 10) == (1, 5, 9, 10, 11, 19, 20, 21, 100)
    assert trials.several_tried(7, 5) == (1, 4, 5, 6, 7)
