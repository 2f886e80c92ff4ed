"""The campaign on an emulated GPU: what only a device executes, section by section, at the sizes
of a rehearsal."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from fedfast.kernels import choices_file
from fedfast.kernels.triton import common

pytest.importorskip("triton", reason="Triton is not installed on this platform")
sys.path.append(str(Path(__file__).parents[1] / "bench"))

import gpu  # noqa: E402
import operation_forms  # noqa: E402
from campaign_device import LAUNCH, CampaignDevice, campaign_device, profiled  # noqa: E402
from gpu_sections import (  # noqa: E402
    bars,
    ceilings,
    choices,
    compiling,
    machine,
    operations,
    products,
    rounds,
    runs,
)
from gpu_sections import campaign as gpu_campaign  # noqa: E402
from gpu_sections.campaign import Campaign  # noqa: E402

pytestmark = pytest.mark.skipif(not common.INTERPRETED, reason="a device is there")
# Calls, turns, algorithms and operations by the dozen would take minutes and execute no more lines.
LESS = (
    (gpu_campaign, "CALLS", 2),
    (gpu_campaign, "TURNS", 1),
    (rounds, "ALGORITHMS", ("fedsam",)),
    (rounds, "ROUNDS", 4),
    (runs, "REHEARSED", ("fedavg", "fedcr")),
    (operation_forms, "CASES", {n: operation_forms.CASES[n] for n in ("conv", "mix", "gram")}),
)
DEVICE = torch.device("cuda", 0)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[CampaignDevice]:
    monkeypatch.setattr(rounds, "profile", profiled)
    # Other threads would compute outside of the emulation.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    ceilings._measured.cache_clear()
    with campaign_device() as made:
        yield made


@pytest.fixture
def brief(device: CampaignDevice, monkeypatch: pytest.MonkeyPatch) -> CampaignDevice:
    """The same, for sections with less to do."""
    for module, name, value in LESS:
        monkeypatch.setattr(module, name, value)
    return device


def campaign(folder: Path) -> Campaign:
    return Campaign(DEVICE, folder / "gpu.csv", True, machine.stamp(DEVICE))


def rows(made: Campaign) -> list[dict[str, str]]:
    with made.path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("section", gpu.SHARES)
def test_sections_run(section: str, brief: CampaignDevice, tmp_path: Path) -> None:
    """To their end, without an error, and all figures are known."""
    made = campaign(tmp_path)
    failed = gpu._run(argparse.Namespace(sections=[section], budget=600.0), made)
    assert not failed, made.beside("errors.txt").read_text()
    found = rows(made)
    assert not made.beside("errors.txt").exists(), made.beside("errors.txt").read_text()
    assert [row for row in found if row["value"] == ""] == []
    assert {row["device"] for row in found} == {"emulated"}


@pytest.mark.parametrize("section", [operations, runs, choices, rounds], ids=lambda m: m.__name__)
def test_what_is_compiled_ahead_is_launched(
    section: ModuleType, brief: CampaignDevice, tmp_path: Path
) -> None:
    made = campaign(tmp_path)
    section.launches(made)
    assert not made.beside("errors.txt").exists(), made.beside("errors.txt").read_text()
    assert sum(n for (kind, name), n in brief.events.items() if kind == "launch") > 9


def test_products_of_all_workloads_are_known(tmp_path: Path) -> None:
    """W3's are W2's of another batch; a layer that two models have comes once."""
    made = Campaign(torch.device("cpu"), tmp_path / "gpu.csv", False, {})
    found = [layer.name.split()[0] for layer in products.layers(made)]
    assert list(dict.fromkeys(found)) == ["W1", "W2", "W3", "W4", "W5"]


@pytest.mark.parametrize("copies", [1, 3])
def test_seconds_of_a_call(copies: int, device: CampaignDevice, tmp_path: Path) -> None:
    """Each of three launches takes `LAUNCH`, in a graph and where a call cannot be captured."""
    made, x = campaign(tmp_path), torch.zeros(4, device=DEVICE)
    seen: list[int] = []

    def action(i: int) -> None:
        seen.append(i)
        for _ in range(3):
            x.add_(1.0)

    def waits(i: int) -> None:
        action(i)
        x.sum().item()

    assert made.seconds(action, copies) == pytest.approx(3 * LAUNCH)
    calls = 20 if copies == 1 else 21
    assert seen == [*range(copies), *(list(range(copies)) * (calls // copies))]
    assert made.seconds(waits, copies) == pytest.approx(4 * LAUNCH)


def test_bars_have_figures(
    device: CampaignDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sections write what the bars read: rounds that are held, measures that a contest has."""
    monkeypatch.setattr(rounds, "ROUNDS", 4)
    made, held = (
        campaign(tmp_path),
        {rounds.subject(name, a, k) for name, k in rounds.SIZES for a in rounds.ALGORITHMS[:2]},
    )
    contest = next(rounds.contests(made))
    contest.hold()
    measures = {measure for _, measure in made.figures}
    wanted = [figure for bar in bars.BARS for figure in bar.figures if figure[0] in held]
    assert len(wanted) >= 6 and {measure for _, measure in wanted} - {"peak"} <= measures


@pytest.mark.parametrize(
    ("values", "worst", "whether"),
    [
        ([1.04, 0.97], "1.04", "reached"),
        ([1.04, 0.94], "0.94", "not reached"),
        ([1.04], "1.04", "1 of 2 not measured"),
        ([], "", "not measured"),
    ],
)
def test_bars_are_judged_by_the_worst(
    values: list[float],
    worst: str,
    whether: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = (("a", "peak"), ("b", "peak"))
    monkeypatch.setattr(bars, "BARS", (bars.Bar("plan", names, "", 0.95, 1.05, bars._farthest),))
    made = Campaign(torch.device("cpu"), tmp_path / "gpu.csv", False, {})
    for (subject, measure), value in zip(names, values, strict=False):
        made.row(subject, measure, value)
    ((name, wanted, figure, _, judged),) = bars.judged(made)
    assert (name, wanted) == ("plan", "at least 0.95, at most 1.05")
    assert (figure, judged) == (worst, whether)
    assert [row["value"] for row in rows(made)][-1] == whether


def test_rows_are_kept(
    device: CampaignDevice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--write` adds a call's rows to those of earlier ones; bars end what is printed."""
    begun: list[tuple[list[str], int]] = []
    monkeypatch.setattr(
        compiling, "processes", lambda names, capability, _: begun.append((names, capability)) or []
    )
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "gpu.py"))
    monkeypatch.setattr(choices_file, "PATH", tmp_path / "choices.csv")
    monkeypatch.setattr(choices, "layers", lambda _: iter(()))
    choices_file.PATH.write_text(choices_file.text(choices_file.Table()), encoding="utf-8")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    (tmp_path / "results").mkdir()
    for count in (1, 2):
        out = tmp_path / f"out{count}"
        assert gpu.main(["--sections", "machine,choices", "--out", str(out), "--write"]) == 0
        lines = (tmp_path / "results" / "gpu.csv").read_text().splitlines()
        own = (out / "gpu.csv").read_text().splitlines()
        assert lines[0] == own[0] and len(lines) == 1 + count * (len(own) - 1)
    assert begun == [(["machine", "choices"], 90)] * 2
    printed = capsys.readouterr().out.splitlines()
    assert len(printed[printed.index("bars") + 1 :]) > len(bars.BARS)
    assert all(line.endswith("not measured") for line in (x.rstrip() for x in printed[-3:]))
