"""`fedfast scale`: figures against closed forms, a cost model that finds known coefficients."""

import csv
import gc
import io
import itertools
import json
import math
import os
import random
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn

from fedfast.cli import main
from fedfast.phases import phase
from fedfast.scaling import cost_model, figures, launchers, machine, results, rows, timing
from fedfast.scaling.cost_model import CostModel, Fitted, Point
from fedfast.scaling.features import PHASE_NAMES, Size, memory_terms, terms
from fedfast.scaling.launchers import Limits, outcome
from fedfast.scaling.machine import Machine, Rates
from fedfast.scaling.memory_use import Peak
from fedfast.scaling.results import Found, Result
from fedfast.scaling.rows import ScaleRow, grid, held_out
from fedfast.scaling.timing import InTurns
from fedfast.scaling.work import Workload, flops_of, fractions
from fedfast.scaling.worker import Measured, fastest

TINY = """\
data: {name: digits}
partition: {name: iid, clients: 10}
model: {name: mlp, hidden: [16]}
algorithms: {fedavg: {}, sharp: {name: fedsam, rho: 0.05}}
local_epochs: 2
batch_size: 20
threads: 1
"""
MACHINE = Machine(
    "m", 2, 1 << 21, 1 << 24, {1: Rates(1e10, 1e11, 1e-6), 2: Rates(2e10, 2e11, 1e-6)}
)
WORK = Workload(4e5, 256, 24, 3, 1, 1, 1, 3e5, 5e5, 360)


def test_flops_are_those_of_the_products():
    mlp = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    forward, backward = flops_of(mlp, torch.randn(4, 7))
    assert forward == 2 * (7 * 5 + 5 * 3)
    assert backward == 2 * (7 * 5 + 5 * 3) + 2 * 5 * 3  # no gradient of the samples
    mlp[0].requires_grad_(False)
    assert flops_of(mlp, torch.randn(4, 7))[1] == 2 * 5 * 3
    conv = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 36, 3))
    assert flops_of(conv, torch.randn(2, 2, 6, 6))[0] == 2 * (36 * 4 * 2 * 9 + 4 * 36 * 3)


def test_amounts_and_fractions_by_hand():
    work = Workload(400, 16, 10, 2, 2, 3, 1, 100, 200, 50)
    assert work.amounts(5) == {
        "gather": 2 * 5 * 10 * 16,
        "forward_backward": 2 * 5 * 10 * 300,
        "perturb": 3 * 5 * 2 * 400,
        "step": 4 * 5 * 2 * 400,
        "aggregate": 5 * 400,
        "state": 2 * 3 * 5 * 400,
        "evaluate": 50 * 100,
    }
    taken = {"aggregate": 1e-3, "forward_backward": 1e-2, "step": 0.0, "evaluate": math.nan}
    found = fractions(work, 5, taken, Rates(bandwidth=4e6, flops=6e6, call=1.0))
    assert found == {"aggregate": pytest.approx(0.5), "forward_backward": pytest.approx(0.5)}


COEFFICIENTS = {
    "schedule": {"fixed": 300, "clients": 2},
    "forward_backward": {"calls": 5, "flops": 2.5},
    "aggregate": {"fixed": 50, "bytes": 1.5, "beyond the last level": 2.0, "sums sent": 3.0},
    "state": {"bytes": 1.25},
    "other": {"fixed": 900, "chunks": 20},
}
MEMORY = {"process": 300, "clients": 2, "live": 1.1, "rows": 4}


def _truth():
    coefficients = {name: COEFFICIENTS.get(name, {}) for name in PHASE_NAMES}
    return CostModel(MACHINE, {"a": Fitted(WORK, 1e6, None, coefficients, MEMORY)})


def _point(clients, cohort, ranks):
    found = _truth().predict("a", clients, cohort, ranks)
    size = Size(clients, cohort, ranks, 2 // ranks, cohort)
    return Point("a", size, found.seconds, found.phases, found.host, 1e6, WORK)


@settings(max_examples=30, deadline=None)
@given(st.integers(10, 50_000), st.floats(1.0, 1000.0), st.sampled_from([1, 2]))
def test_a_known_model_is_found_again(cohort, spread, ranks):
    sizes = [(n, c, g) for n in (10**4, 10**6) for c in (10, 100, 1000, 10_000) for g in (1, 2)]
    model = cost_model.fit([_point(*size) for size in sizes], MACHINE)
    clients = int(cohort * spread)
    other = Rates(bandwidth=9e10, flops=5e12, call=3e-7)
    for rates in (None, other):
        ours, theirs = (
            m.predict("a", clients, cohort, ranks, rates=rates) for m in (model, _truth())
        )
        assert ours.seconds == pytest.approx(theirs.seconds, rel=1e-6)
        assert ours.host == pytest.approx(theirs.host, rel=1e-6)


@pytest.mark.parametrize("rounds", [1, 7, 60])
def test_clients_that_are_new_are_counted(rounds):
    size = Size(clients=50, cohort=8, ranks=1, threads=1, chunk=8, rounds=2 * rounds)
    draw, seen, new = random.Random(rounds), [], []
    for _ in range(1000):
        known = set()
        for i in range(2 * rounds):
            cohort = set(draw.sample(range(50), 8))
            if i == rounds:
                new.append(len(cohort - known) / 8)
            known |= cohort
        seen.append(len(known))
    assert size.new == pytest.approx(sum(new) / 1000, abs=0.02)
    assert size.seen == pytest.approx(sum(seen) / 1000, rel=0.02)


def test_pages_of_new_rows_are_told_from_other_work():
    truth = _truth()
    truth.algorithms["a"].coefficients["forward_backward"]["rows first written"] = 6.0
    sizes = [(n, c, r) for n in (1000, 10**4, 10**6) for c in (10, 100, 1000) for r in (3, 23)]
    points = [
        Point("a", Size(n, c, 1, 2, c, r), p.seconds, p.phases, p.host, 1e6, WORK)
        for n, c, r in sizes
        for p in [truth.predict("a", n, c, rounds=r)]
    ]
    model = cost_model.fit(points, MACHINE)
    early, late = (model.predict("a", 1000, 900, rounds=r).seconds for r in (2, 40))
    pages = (0.1 - 0.1**20) * 900 * WORK.row  # bytes that are written first in the first one only
    assert early - late == pytest.approx(6.0 * pages / MACHINE.of(2).bandwidth, rel=1e-6)


def test_ranks_cost_the_same_where_they_were_not_measured():
    sizes = [(10**5, c, g) for c in (10, 100, 1000, 10_000) for g in (1, 2)]
    points = [_point(*size) for size in sizes]
    alone = [replace(p, algorithm="b") for p in points if p.size.ranks == 1]
    model = cost_model.fit([*points, *alone], MACHINE)
    for cohort in (50, 5000):
        ours, theirs = (model.predict(name, 10**5, cohort, ranks=2) for name in "ab")
        assert theirs.seconds == pytest.approx(ours.seconds, rel=1e-6)


def test_a_row_that_was_held_up_changes_little():
    sizes = [(10**5, c, 1) for c in (10, 30, 100, 300, 1000, 3000, 10_000)]
    points = [_point(*size) for size in sizes]
    late = points[3]
    phases = {**late.phases, "aggregate": late.phases["aggregate"] + 3 * late.seconds}
    points[3] = Point("a", late.size, 4 * late.seconds, phases, late.host, 1e6, WORK)
    off = cost_model.errors(cost_model.fit(points, MACHINE), [_point(10**5, 500, 1)])
    assert abs(off[0]) < 0.05


def test_terms_are_times_of_this_machine():
    size = Size(clients=1000, cohort=8, ranks=2, threads=1, chunk=3)
    found = terms(size, WORK, MACHINE, Rates(1e9, 1e10, 1e-6))
    assert found["forward_backward"]["flops"] == pytest.approx(8 * 24 * 8e5 / 1e10)
    assert found["aggregate"]["bytes"] == pytest.approx(8 * 4e5 / 1e9)
    assert found["other"]["clients"] == pytest.approx(4e-6)  # a rank's
    assert found["aggregate"]["chunks"] == pytest.approx(2e-6)
    assert memory_terms(size, WORK, 100)["live"] == 300


def test_models_are_kept_as_they_are(tmp_path):
    path = tmp_path / "model.json"
    _truth().save(path)
    assert cost_model.load(path) == _truth()
    path.write_text('{"machine": {}}')
    with pytest.raises(ValueError, match=r"model\.json: expected a cost model"):
        cost_model.load(path)


@given(
    st.sets(st.integers(1, 10**6), min_size=2, max_size=4), st.integers(1, 8), st.integers(0, 99)
)
def test_held_out_rows_lie_between(sizes, count, seed):
    made = grid(Path("s"), ["a", "b"], sorted(sizes), sorted(sizes), [1])
    others = held_out(made, count, seed)
    assert others == held_out(made, count, seed) and len(others) <= count
    names = [row.name for row in (*made, *others)]
    assert len(set(names)) == len(names)
    for row in others:
        assert min(sizes) <= row.cohort <= row.clients <= max(sizes)


def test_memory_is_counted_where_it_is(tmp_path):
    gc.collect()  # what earlier tests left must not go amid this one
    peak = Peak.begun()
    before = peak.bytes(torch.device("cpu"))
    held = torch.ones(30 << 20)  # 120 MiB
    with (tmp_path / "rows").open("w+b") as file:
        file.seek(1 << 30)
        file.write(bytes(4 << 20))  # of a sparse file
        file.flush()
        os.fsync(file.fileno())
        (tmp_path / "rows").unlink()
        found = peak.bytes(torch.device("cpu"))
    assert held.sum() == 30 << 20
    assert 119 << 20 <= found["host"] - before["host"] <= 140 << 20
    assert 4 << 20 <= found["disk"] - before["disk"] <= 5 << 20


def test_slope_is_the_exponent():
    assert figures.slope([(x, 3 * x**0.75) for x in (10, 100, 3000)]) == pytest.approx(0.75)


ENDS = [
    (2, "fedfast: partition: no\n", "partition: no"),
    (1, "Traceback\nMemoryError\n", "its process ended (exit status 1): MemoryError"),
    (-9, "", "its process ended (SIGKILL): out of memory, or a crash"),
]


@pytest.mark.parametrize(("code", "said", "expected"), ENDS)
def test_how_a_row_ended_is_one_line(code, said, expected, tmp_path):
    row = ScaleRow(tmp_path, "a", 10, 2, 1)
    row.output.parent.mkdir(parents=True)
    row.output.write_text(said)
    found = outcome(row, code)
    assert (found.status, found.error) == ("failed", expected)


@pytest.mark.parametrize("diverged", [1, 2, 5])
def test_a_row_that_diverges_says_so(diverged):
    """In the round that is not counted, a timed one, or one that is timed phase by phase."""
    rounds = [
        SimpleNamespace(round=t, status="diverged" if t == diverged else "ok", seconds=1.0)
        for t in range(1, diverged + 1)
    ]
    going = InTurns(iter(rounds), itertools.repeat(SimpleNamespace(seconds=0.1)), 2)
    with pytest.raises(ValueError, match=f"round {diverged}: diverged; lower lr"):
        timing.profiled(going, 1)
        list(timing.timed(going, 3, 9.0))
        timing.profiled(going, 2)


def test_the_yardstick_is_timed_between_rounds_and_in_no_profile():
    said = []

    def rounds(name):
        while True:
            said.append(name)
            with phase("step"):
                time.sleep(0.002 if name == "yard" else 0.0)
            yield SimpleNamespace(status="ok", seconds=1.0)

    going = InTurns(rounds("row"), rounds("yard"), 2)
    assert len(list(timing.timed(going, 3, 60.0))) == 3
    phases = timing.profiled(going, 2)
    turn = ["yard"] * timing.PULSES + ["row"] * 2
    assert said == [*turn, *turn, *turn[:-1]]
    assert going.pulses == [1.0] * 3 * timing.PULSES
    assert phases["step"] < 0.002


def test_ranks_are_started_by_torch(tmp_path):
    row = ScaleRow(tmp_path, "a", 10, 2, 2)
    words = launchers.command(row, Limits(3, 1.0))
    assert words[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert words[5:7] == ["-m", "fedfast.scaling.worker"]


ORPHAN = """
import sys, time
from pathlib import Path
from fedfast.scaling import launchers
from fedfast.scaling.rows import ScaleRow
code = (
    "from fedfast.scaling.launchers import ends_with_its_parent; import time;"
    "ends_with_its_parent(); print('up', flush=True); time.sleep(60)"
)
launchers.command = lambda row, limits: [sys.executable, "-c", code]
row = ScaleRow(Path(sys.argv[1]), "a", 10, 2, 1)
process = launchers.start(row, launchers.Limits(1, 1.0))
while row.output.read_text() != "up\\n":
    time.sleep(0.01)
print(process.pid, flush=True)
time.sleep(60)
"""


def test_a_killed_study_leaves_no_process(tmp_path):
    """One that went on would slow down the rows of the next call, and write one of them."""
    command = [sys.executable, "-c", ORPHAN, str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    os.kill(worker, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    ended = time.monotonic() + 10
    while time.monotonic() < ended and _runs(worker):
        time.sleep(0.01)
    assert not _runs(worker)


def _runs(process):
    """A process that nobody waits for has ended too."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("low, high", [(3e8, 4e8), (2e-3, 9e-3), (1.5e3, 9e3), (1e2, 1e6)])
def test_axes_have_two_numbers_at_least(low, high):
    ax = Figure().subplots()
    ax.plot([low, high], [low, high])
    figures._logarithmic(ax)
    ax.get_figure().draw_without_rendering()
    for axis in (ax.xaxis, ax.yaxis):
        first, last = axis.get_view_interval()
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        seen = [t for t in ticks if t.label1.get_text() and first <= t.get_loc() <= last]
        assert 2 <= len(seen) <= 6


def test_tables_name_every_row_on_80_columns(study):
    folder, _ = study
    held = [results.read(row) for row in grid(folder, ["sharp"], [1000], [5, 8], [1])]
    wide = [replace(one, row=replace(one.row, clients=10**6, cohort=10**4)) for one in held]
    with redirect_stdout(io.StringIO()) as out:
        for table in results.tables(wide, MACHINE):
            Console(width=80).print(table)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in out.getvalue()
    assert sum("sharp      10,000/1,000,000 " in line for line in lines) == 4


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of two rows, and what it printed the first and the second time."""
    folder = tmp_path_factory.mktemp("scale")
    (folder / "tiny.yaml").write_text(TINY)
    command = ["scale", "tiny.yaml", "--clients", "1000", "--cohort", "5,8", "--out", "s"]
    command += ["--algorithms", "sharp", "--held-out", "0", "--rounds", "2", "--seconds", "0.1"]
    command += ["--repeats", "1"]
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(machine, "LASTS", 0.0)
        for _ in range(2):
            with redirect_stdout(io.StringIO()) as out:
                assert main(command) == 0
            said.append(out.getvalue())
    return folder / "s", said


def test_a_study_says_what_its_rows_took(study):
    folder, (first, second) = study
    assert "[2/2] sharp, 8 of 1,000 clients: " in first and "measured before" not in first
    assert "[2/2] measured before: 2" in second
    rates = json.loads((folder / "machine.json").read_text())["rates"]["1"]
    with (folder / "scale.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [(row["clients"], row["cohort"], row["status"]) for row in found] == [
        ("1000", "5", "done"), ("1000", "8", "done"),
    ]  # fmt: skip
    for row in found:
        cohort, seconds = int(row["cohort"]), float(row["seconds"])
        assert float(row["clients_per_second"]) == pytest.approx(cohort / seconds, rel=1e-4)
        seen = float(row["samples_per_second"]) * seconds  # two epochs of 143 or 144 samples
        assert 2 * 143 * cohort <= seen * 1.0001 and seen <= 2 * 144 * cohort * 1.0001
        phases = sum(float(row[f"{name}_seconds"]) for name in PHASE_NAMES)
        assert phases == pytest.approx(seconds, rel=1e-3)
        # fedsam: two passes of forward 2 (64 16 + 16 10) and backward, less the samples' gradient
        flops = 2 * seen * (2 * 2 * (64 * 16 + 16 * 10) + 2 * 16 * 10)
        taken = float(row["forward_backward_seconds"])
        expected = flops / taken / rates["flops"]
        assert float(row["forward_backward_fraction"]) == pytest.approx(expected, rel=0.02)
        assert int(row["host_bytes"]) > 50 << 20
    assert {"cohort.png", "throughput.png", "model.png"} <= {p.name for p in folder.iterdir()}


def test_visits_to_a_row_are_kept_and_the_fastest_described(study):
    folder, _ = study
    kept = json.loads(
        (folder / "rows" / "sharp" / "clients-1000-cohort-5-ranks-1.json").read_text()
    )
    del kept["held_out"]
    path, first = folder / "visits.json", Measured(**kept)
    assert fastest(path, first) == first
    path.write_text(json.dumps({**asdict(first), "held_out": False}))
    for factor in (1.2, 0.9):
        seconds = first.seconds * factor
        now = replace(first, seconds=seconds, visits=[[seconds, 0.5]], chunk=4, host=first.host + 1)
        best = fastest(path, now)
        assert best.visits == [*first.visits, [seconds, 0.5]] and best.host == first.host
        assert best.seconds == min(seconds, first.seconds)
        assert best.chunk == (4 if factor < 1 else first.chunk)  # all of one visit
    path.write_text("{")
    assert fastest(path, now) == now
    path.unlink()


def _found(*visits):
    phases = {**dict.fromkeys(PHASE_NAMES, 0.0), "step": visits[0][0] / 4}
    return Found(visits[0][0], visits, 240.0, 3, 2, 10, 1, 0.1, 0.1, 1, 0, 0, phases, WORK)


def test_rows_are_compared_at_one_speed_of_the_machine():
    slow = _found((3.0, 0.15), (2.9, 0.1), (1.1, 0.1), (1.0, 0.3))  # by a third, and held up
    assert slow.usual(0.1) == pytest.approx([1.1, 2.0, 2.9])
    assert not slow.agrees(0.1) and slow.at(0.1).seconds == 1.1
    assert slow.usual(1.0) == pytest.approx([1.0 / 0.3, 11.0, 20.0, 29.0])  # all are far off
    even = _found((2.0, 0.1), (2.16, 0.106), (3.0, 0.1))
    assert even.agrees(0.1) and even.at(0.1).seconds == pytest.approx((2 + 2.16 / 1.06) / 2)
    assert even.at(0.1).phases["step"] == pytest.approx(
        even.at(0.1).seconds / 4
    )  # of which it is a quarter
    assert not _found((2.0, 0.1)).agrees(0.1)
    made = [Result(ScaleRow(Path(), "a", 9, c, 1), "done", found=_found((c, p))) for c, p in
            ((1, 0.1), (2, 0.11), (8, 0.2))]  # fmt: skip
    assert results.pulses(made) == {("a", 1): 0.11}
    usual = [one.found.seconds for one in results.settled(made)]
    assert usual == pytest.approx([1.1, 2.0, 4.4])
    assert results.unsure(made[0], 1, results.pulses(made))
    assert not results.unsure(made[0], 2, results.pulses(made))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sizes_not_run_are_predicted_on_a_noisy_machine(seed):
    """Speeds of two thirds to all for a while, bursts that hold up a visit, noise of 3 %."""
    draw = random.Random(seed)
    sizes = [(n, c, g) for n in (10**4, 10**6) for c in (10, 100, 1000, 10_000) for g in (1, 2)]
    held = [(draw.randrange(10**4, 10**6), int(10 ** draw.uniform(1, 4)), 1 + i % 2)
            for i in range(40)]  # fmt: skip
    made = [Result(ScaleRow(Path(), "a", n, c, g, i >= len(sizes)), "done")
            for i, (n, c, g) in enumerate([*sizes, *held])]  # fmt: skip
    made = [_visited(draw, one) for one in made]
    for turn in range(1, 5):
        usual = results.pulses(made)
        made = [_visited(draw, r) if results.unsure(r, turn, usual) else r for r in made]
    points = [one.point() for one in results.settled(made)]
    model = cost_model.fit(points[: len(sizes)], MACHINE)
    off = [abs(error) for error in cost_model.errors(model, points[len(sizes) :])]
    assert max(off) < 0.15
    truth = _truth()
    scale = [predicted.seconds / cost_model.predicted(truth, p).seconds
             for p in points for predicted in [cost_model.predicted(model, p)]]  # fmt: skip
    assert max(scale) / min(scale) < 1.3  # of one machine: the usual speed is the same for all


def _visited(draw, one):
    """The row after one more visit, on a machine whose speed no one knows."""
    row = one.row
    true = _truth().predict("a", row.clients, row.cohort, row.ranks)
    factor = draw.choice([1.0, 1.05, 1.1, 1.5]) * math.exp(draw.gauss(0, 0.03))
    pulse = 1e-3 * factor * math.exp(draw.gauss(0, 0.03))
    burst = draw.choice([*[1.0] * 9, draw.uniform(1.2, 3.0)])
    seconds = true.seconds * factor * burst
    visits = [*(one.found.visits if one.found else ()), (seconds, pulse)]
    phases = {name: taken * factor * burst for name, taken in true.phases.items()}
    found = Found(seconds, visits, 24.0 * row.cohort, 20, 2 // row.ranks, row.cohort, 10**6, 0.1,
                  0.1, int(true.host), 0, 0, phases, WORK)  # fmt: skip
    return replace(one, found=found)


def test_predictions_need_no_torch(study, capsys):
    folder, _ = study
    program = (
        "import sys; from fedfast.cli import main;"
        "code = main(['scale', sys.argv[1], '--predict', 'clients=1e6,cohort=100']);"
        "print('torch' in sys.modules, code)"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True)
    assert done.stdout.startswith("sharp: ") and done.stdout.endswith("False 0\n"), done.stderr
    assert main(["scale", str(folder), "--predict", "clients=10,cohort=5,flops=1e15"]) == 0
    assert "clients/s" in capsys.readouterr().out


MISTAKES = [
    (["--clients", "ten"], "--clients: expected a number, found 'ten'"),
    (["--cohort", "0"], "--cohort: expected a whole number from 1 to 10^8, found '0'"),
    (["--cohort", "2.5"], "--cohort: expected a whole number from 1 to 10^8, found '2.5'"),
    (["--clients", "9", "--cohort", "10"], "--cohort: expected a number from --ranks to --clients"),
    (["--ranks", "1,1"], "--ranks: expected different values with commas between, found '1,1'"),
    (["--launcher", "slurm"], "--launcher: expected local or ray, found 'slurm'"),
    (["--seconds", "-1"], "--seconds: expected a number above 0, found '-1'"),
    (["--seconds", "nan"], "--seconds: expected a number above 0, found 'nan'"),
    (["--algorithms", "fedavk"], "unknown name 'fedavk'; did you mean 'fedavg'?"),
    (["--nonsense", "1"], "--nonsense"),
    (["--predict", "clients=5,cohort=1"], "--predict: expected a model in"),
]


@pytest.mark.parametrize(("flags", "expected"), MISTAKES)
def test_mistakes_are_one_line(flags, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert main(["scale", "tiny.yaml", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fedfast: ") and expected in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_wrong_predictions_are_one_line(study, capsys):
    folder, _ = study
    for asked, expected in {
        "clients=5": "--predict: expected cohort=N",
        "clients=5,cohort=6": "cohort: expected at most clients = 5; got 6",
        "clients=5,cohort=1,algorithm=x": "algorithm: expected one of sharp; got 'x'",
        "clients=5,cohort=2,ranks=3": "ranks: expected at most cohort = 2; got 3",
        "clients=5,cohort=1,clients=6": "--predict: expected clients once",
        "clients=5,cohort=1,speed=2": "expected NAME=VALUE of clients",
    }.items():
        assert main(["scale", str(folder), "--predict", asked]) == 2
        assert expected in capsys.readouterr().err


def test_another_study_is_refused(study, capsys, monkeypatch):
    folder, _ = study
    monkeypatch.chdir(folder.parent)
    assert main(["scale", "tiny.yaml", "--lr", "0.7", "--out", "s"]) == 2
    assert "s: holds a study with lr 0.1, not 0.7; give another --out" in capsys.readouterr().err
    assert main(["scale", "tiny.yaml", "--threads", "2", "--out", "s"]) == 2
    assert "holds a study with threads 1, not 2" in capsys.readouterr().err


def test_names_of_rows_are_paths(tmp_path):
    row = rows.ScaleRow(tmp_path, "fedavg", 1000, 10, 2)
    assert row.result == tmp_path / "rows" / "fedavg" / "clients-1000-cohort-10-ranks-2.json"
