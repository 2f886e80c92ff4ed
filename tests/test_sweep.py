"""`fedfast sweep`: which rows there are, that SIGKILL costs nothing, that none stops another."""

import csv
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfast import config as configs
from fedfast.cli import main, session
from fedfast.config.draft import Draft
from fedfast.history import read_runs
from fedfast.sweep import grid, pool, results, work

TINY = """\
data: {name: digits}
partition: {name: dirichlet, clients: 6, alpha: 0.5}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, sharp: {name: fedsam, rho: 0.05}}
rounds: 3
participation: 0.5
batch_size: 50
threads: 1
"""
SECTION = (
    TINY
    + """\
sweep:
  seeds: [4, 5]
  grid: {partition.alpha: [0.1, 0.5], algorithms.sharp.rho: [0.2]}
"""
)
VALUES = {
    "partition.alpha": [0.1, 0.5, 2.0],
    "model.hidden": [[8], [4, 4]],
    "rounds": [2, 3],
    "lr": [0.1, {"name": "cosine", "start": 0.1, "rounds": 3}],
    "algorithms.sharp.rho": [0.05, 0.1, 0.2],
    "algorithms.fedavg.keep_models": [False, True],
}  # fmt: skip
# Callbacks of the user's own: rounds slow enough to be killed, and rows that end badly.
OWN = """\
import os, time

def slow(sim, row):
    time.sleep(0.05)

def bad(sim, row):
    rho = getattr(sim.algorithm.local, "rho", 0)
    if row.round == 2 and rho == 0.2:
        raise RuntimeError("no good")
    if row.round == 2 and rho == 0.3:
        os._exit(9)
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "section.yaml").write_text(SECTION)
    return tmp_path


def table(folder):
    with (Path(folder) / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def leaf(config, name):
    """The value of a dotted field, read from the dump as a person would."""
    found = config.model_dump()
    for part in name.split("."):
        found = found[part]
    return found


@st.composite
def grids(draw):
    names = draw(st.lists(st.sampled_from(list(VALUES)), unique=True, max_size=3))
    kept = {n: draw(st.integers(1, len(VALUES[n]))) for n in names}
    return {n: VALUES[n][:many] for n, many in kept.items()}


@given(grids(), st.lists(st.integers(0, 2**40), min_size=1, max_size=2, unique=True))
@settings(max_examples=20, deadline=None)
def test_rows_are_the_products_of_what_concerns_their_label(tmp_path_factory, fields, seeds):
    path = tmp_path_factory.getbasetemp() / "tiny.yaml"
    path.write_text(TINY)
    draft = Draft.read(path)
    axes = [grid.axis(draft, name, values, f"--grid {name}") for name, values in fields.items()]
    rows = grid.rows(draft, axes, seeds, Path("out"))
    expected = []
    for label, other in (("fedavg", "sharp"), ("sharp", "fedavg")):
        mine = [name for name in fields if not name.startswith(f"algorithms.{other}.")]
        for values in itertools.product(*(fields[name] for name in mine), seeds):
            expected.append((label, *sorted(zip([*mine, "seed"], map(str, values), strict=True))))
    found = [
        (r.label, *sorted((n, str(v)) for n, v in {**r.values, "seed": r.seed}.items()))
        for r in rows
    ]
    assert sorted(found) == sorted(expected)
    assert len({row.folder for row in rows}) == len(rows)
    for row in rows:
        assert list(row.config.algorithms) == [row.label]
        assert row.folder.parts[-2:] == (row.label, f"seed-{row.seed}")
        for name, value in row.values.items():
            now = leaf(row.config, name)
            assert now == value or (name == "lr" and now["start"] == value["start"])


def test_the_folder_of_a_row_is_the_same_in_any_order_of_flags(tiny):
    draft = Draft.read("tiny.yaml")
    axes = [grid.axis(draft, n, VALUES[n], n) for n in ("rounds", "algorithms.sharp.rho", "lr")]
    folders = [{r.folder for r in grid.rows(draft, a, [0], Path("x"))} for a in (axes, axes[::-1])]
    assert folders[0] == folders[1]


@pytest.mark.parametrize(
    "given, values",
    [("0.1,1e-3", [0.1, 0.001]), ("[64, 64],[8]", [[64, 64], [8]]), ("null,a b", [None, "a b"]),
     ("{name: cosine, start: 1},2", [{"name": "cosine", "start": 1}, 2]), ("'1,2',3", ["1,2", 3])],
)  # fmt: skip
def test_values_are_read_as_in_a_file(given, values):
    assert grid.listed("--grid x", given) == values


@pytest.mark.parametrize("name", ["a/../b", "x" * 400, "é ", "..", "a,b=c", ""])
def test_a_value_of_any_text_gives_a_folder_of_its_own(tmp_path, name):
    folders = {grid.combination_folder({"data.root": text}) for text in (name, name + "-", "a-b-b")}
    assert len(folders) == 3
    for folder in folders:
        (tmp_path / folder).mkdir()
        assert (tmp_path / folder).parent.samefile(tmp_path)


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--grid", "partition.alpha=0,-1"],
         ["--grid partition.alpha=0: expected a number greater than 0", "alpha=-1: expected"]),
        (["--grid", "partition.alhpa=1"], ["--grid partition.alhpa: unknown field, nearest: al"]),
        (["--grid", "algorithms.shrp.rho=1"], ["nearest: sharp"]),
        (["--grid", "algorithms.sharp.roh=1"], ["--grid algorithms.sharp.roh=1", "'rho'"]),
        (["--grid", "algorithms.sharp.rho=-1"], ["rho=-1: algorithms.sharp: rho: expected"]),
        (["--grid", "partition=1"], ["--grid partition: is a section"]),
        (["--grid", "seed=1"], ["--grid seed: is not part of a grid; use --seeds"]),
        (["--grid", "partition.alpha"], ["--grid: expected FIELD=A,B, found 'partition.alpha'"]),
        (["--grid", "partition.alpha="], ["--grid partition.alpha: expected a list of at least"]),
        (["--grid", "rounds=1,1"], ["--grid rounds: expected a list of different values (1 is"]),
        (["--seeds", "0,x"], ["--seeds: expected an integer, found 'x'"]),
        (["--seeds", "1,1"], ["--seeds: expected a list of different values"]),
        (["--seeds", "0", "--jobs", "0"], ["--jobs: expected a number greater than or equal to 1"]),
        (["--seeds", "0", "--rounds", "0"], ["--rounds: expected a number greater"]),
        (["--search", "lr=1"], ["--search lr: expected LOW..HIGH, LOW..HIGH:log or different"]),
        (["--search", "lr=1..0.5"], ["--search lr: expected two numbers LOW < HIGH, found"]),
        (["--search", "lr=0..1:log"], ["--search lr: expected two numbers LOW < HIGH, the lower"]),
        (["--search", "lr=-1..1"], ["--search lr=-1: expected a number greater than 0"]),
        (["--search", "model.name=mlp|cn"], ["--search model.name=cn: unknown name 'cn'"]),
        (["--search", "lr=1..2", "--metric", "acc"], ["--metric: unknown name 'acc'; known: acc"]),
        (["--search", "lr=1..2", "--metric", "loss:worst"], ["--metric: expected a column, "]),
        (["--search", "lr=1..2", "--metric", "model_norm"], ["--metric: unknown name 'model_"]),
        (["--search", "lr=1..2", "--mode", "most"], ["--mode: expected "]),
        (["--search", "lr=1..2", "--grid", "rounds=1"], ["there is a grid too"]),
        ([], ["nothing to sweep: expected --seeds, --grid or --search"]),
    ],
)  # fmt: skip
def test_every_mistake_is_told_before_anything_runs(tiny, capsys, flags, says):
    before = sorted(tiny.rglob("*"))
    assert main(["sweep", "tiny.yaml", *flags]) == 2
    found = capsys.readouterr().err
    assert all(line.startswith("fedfast: ") for line in found.splitlines())
    for text in says:
        assert text in found
    assert sorted(tiny.rglob("*")) == before


def test_flags_go_before_the_section_of_the_config(tiny, monkeypatch):
    seen = []
    monkeypatch.setattr(pool.Pool, "run", lambda self, rows, look: seen.extend(rows) or iter(()))
    flags = ["--seeds", "7", "--grid", "partition.alpha=2,3", "--rounds", "2", "--out", "there"]
    assert main(["sweep", "section.yaml", *flags]) == 0
    assert {(r.seed, r.config.partition.alpha, r.config.rounds) for r in seen} == {
        (7, 2.0, 2), (7, 3.0, 2)
    }  # fmt: skip
    assert {r.config.algorithms["sharp"].options()["rho"] for r in seen if r.label == "sharp"} == {
        0.2  # the section's: no flag is about it
    }
    kept = configs.load("there/config.yaml")
    assert kept.sweep.seeds == [7] and kept.sweep.grid["partition.alpha"] == [2, 3]
    first, seen[:] = list(seen), []
    assert main(["resume", "there"]) == 0  # the folder knows all of it
    assert seen == first
    assert main(["resume", "there", "--seeds", "8"]) == 0  # and takes the same flags
    assert {row.seed for row in seen[len(first) :]} == {8}


def test_run_takes_the_config_without_its_section(tiny, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(session, "run", lambda config, *_: seen.append(config) or 0)
    assert main(["run", "section.yaml"]) == 0
    assert "`fedfast sweep section.yaml` runs what its section" in capsys.readouterr().out
    assert [config.sweep for config in seen] == [None]


def test_another_base_is_refused_option_by_option(tiny, monkeypatch, capsys):
    monkeypatch.setattr(pool.Pool, "run", lambda self, rows, look: iter(()))
    assert main(["sweep", "section.yaml"]) == 0
    assert main(["sweep", "section.yaml", "--seeds", "1", "--rounds", "9", "--threads", "2"]) == 0
    capsys.readouterr()
    assert main(["sweep", "section.yaml", "--lr", "0.3", "--partition.clients", "7"]) == 2
    found = capsys.readouterr().err
    assert "lr 0.1, not 0.3" in found and "partition.clients 6, not 7" in found
    (tiny / "run").mkdir()
    (tiny / "run" / "config.yaml").write_text(TINY)
    assert main(["sweep", "section.yaml", "--out", "run"]) == 2
    assert "run holds a run, not a sweep; give another --out" in capsys.readouterr().err


def test_gpus_are_dealt_in_turn_and_share_their_memory(tiny, monkeypatch):
    monkeypatch.setattr(pool, "devices", lambda config: ["cuda:0", "cuda:1"])
    config = configs.load("tiny.yaml")
    assert pool.jobs(config) == 2
    slots = pool.pool(config, 3).slots
    assert [(s.device, s.sharing) for s in slots] == [("cuda:0", 2), ("cuda:1", 1), ("cuda:0", 2)]


def test_as_many_rows_at_once_as_their_threads_leave_cores(tiny, monkeypatch):
    monkeypatch.setattr(pool, "devices", lambda config: [])
    monkeypatch.setattr(pool, "cpu_count", lambda: 8)
    for threads, expected in ((1, 8), (3, 2), (16, 1)):
        assert pool.jobs(configs.load("tiny.yaml", ["--threads", str(threads)])) == expected


def bits(folder):
    """All that a sweep computes: rows without their times, and the models."""
    found = {}
    for path in sorted(Path(folder).rglob("history.csv")):
        (label, history), *more = read_runs(path).items()
        assert not more
        where = path.parent.relative_to(folder)
        rows = [{k: v for k, v in vars(r).items() if "second" not in k} for r in history]
        model = torch.load(path.parent / "checkpoint" / f"{label}.pt")["model"]
        found[where] = repr(rows), {k: v.numpy().tobytes() for k, v in model.items()}
    lines = [{**row, "seconds": ""} for row in table(folder)]
    return found, lines


def killed_in(command, row, round):
    """SIGKILL to the command once `row` has come to a round; then its workers are waited for."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        while f",{round}," not in (text := read(row / "history.csv")):
            assert process.poll() is None, (process.communicate()[1], text)
            time.sleep(0.02)
        worker = int(read(row / ".lock"))
        process.kill()
    until = time.monotonic() + 60
    while alive(worker):
        assert time.monotonic() < until, "a worker runs on without its parent"
        time.sleep(0.02)


def read(path):
    return path.read_text() if path.exists() else ""


def alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_sweep_killed_twice_ends_with_the_bits_of_one_that_was_not(tiny):
    flags = ["--callbacks", "own:slow", "--rounds", "6", "--jobs", "1", "--seeds", "3"]
    command = [sys.executable, "-m", "fedfast", "sweep", "tiny.yaml", *flags, "--out", "killed"]
    killed_in(command, Path("killed/fedavg/seed-3"), 3)
    killed_in(command, Path("killed/sharp/seed-3"), 2)
    assert main(command[3:]) == 0
    draft = Draft.read("tiny.yaml", ["--rounds", "6"])
    whole = grid.rows(draft, [], [3], Path("whole"))
    assert [work.run(row, None).status for row in whole] == ["done", "done"]
    results.write([results.result(row, "done") for row in whole], Path("whole/sweep.csv"))
    assert bits("killed") == bits("whole")


def test_a_row_that_fails_or_dies_stops_no_other(tiny, capsys):
    command = ["sweep", "tiny.yaml", "--grid", "algorithms.sharp.rho=0.2,0.3,0.4"]
    assert main([*command, "--callbacks", "own:bad", "--jobs", "1"]) == 1
    fedavg, bad, dead, good = table("runs/tiny-sweep")
    assert [row["status"] for row in (fedavg, bad, dead, good)] == [
        "done", "failed", "failed", "done"
    ]  # fmt: skip
    assert bad["rounds"] == "2" and bad["error"] == "RuntimeError: no good"
    kept = (Path("runs/tiny-sweep") / bad["folder"] / "error.txt").read_text()
    assert "Traceback" in kept and "RuntimeError: no good" in kept
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "rho=0.2 sharp seed 0: RuntimeError: no good" in lines[0]
    assert "rho=0.3 sharp seed 0: its process ended" in lines[1]
