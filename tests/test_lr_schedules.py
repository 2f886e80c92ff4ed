"""Schedules over rounds: their values, in runs, in configs and from the command line."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import pytest
import torch
from paired_runs import free, path, simulation
from scripts import basic, variates
from scripts.gradients import sam
from scripts.run import Run

from fedfast import algorithms as alg
from fedfast import config
from fedfast.algorithms import Cosine, Exponential, Ramp, by_name
from fedfast.cli import main

pytestmark = pytest.mark.usefixtures("one_thread")


def test_values():
    assert [Ramp(0.5, 1.0, 4)(t) for t in (0, 1, 4, 9)] == [0.5, 0.625, 1.0, 1.0]
    assert [Ramp(1.0, 0.0, 2)(t) for t in (0, 1, 2)] == [1.0, 0.5, 0.0]
    assert [Exponential(8.0, 0.5)(t) for t in (0, 1, 3)] == [8.0, 4.0, 1.0]
    half = [Cosine(1.0, 4)(t) for t in range(6)]
    assert half == pytest.approx([1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0.0, 0.0])
    assert [Cosine(1.0, 2, end=0.5)(t) for t in (0, 1, 2)] == pytest.approx([1.0, 0.75, 0.5])


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Cosine(0.1, 0), ValueError, "cosine, rounds: expected an integer >= 1; got 0"),
        (lambda: Ramp(0.1, 0.2, 2.5), TypeError, "ramp, rounds: expected an integer >= 1; got 2.5"),
        (lambda: Ramp(-0.1, 0.2, 2), ValueError, "ramp, start: expected a finite number >= 0"),
        (lambda: Exponential(0.1, math.nan), ValueError, "exponential, decay: expected a finite"),
        (lambda: by_name("fedsam", rho={"name": "ramps"}), ValueError, "did you mean 'ramp'"),
        (lambda: by_name("fedsam", rho={"name": "ramp"}), ValueError, "schedule ramp: needs start"),
        (lambda: simulation(free(lr_decay=1.0), "fedavg", lr=Cosine(0.1, 3)), ValueError,
         "lr in round 4: expected a number above 0; got 0.0"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_a_radius_that_turns_negative_is_named_in_its_round():
    sim = simulation(free(), alg.FedSAM(rho=lambda t: 0.1 - 0.1 * t))
    with pytest.raises(ValueError, match="expected a finite number >= 0 in round 2; got -0.1"):
        path(sim)


def test_a_radius_follows_its_ramp():
    run, expected = free(), []
    algorithm = by_name("fedsam", rho={"name": "ramp", "start": 0.01, "end": 0.3, "rounds": 3})
    w = run.w0
    for t in range(5):
        one = replace(run, w0=w, cohorts=[run.cohorts[t]], epochs=[run.epochs[t]], lr=run.eta(t))
        w = basic.fedavg(one, sam(0.01 + 0.29 * min(t / 3, 1), 1e-12))[0]
        expected.append(w)
    assert (path(simulation(run, algorithm)) - torch.stack(expected)).abs().max() < 1e-12


class Turning(Run):
    """A run whose learning rate follows a cosine."""

    def eta(self, t: int) -> float:
        return 0.05 + 0.25 * 0.5 * (1 + math.cos(math.pi * t / 6))


@pytest.mark.parametrize(
    ("algorithm", "script"),
    [(alg.SCAFFOLD(), variates.scaffold), (alg.FedCM(alpha=0.3), lambda r: basic.fedcm(r, 0.3))],
    ids=["scaffold", "fedcm"],
)
def test_state_is_scaled_by_the_rounds_own_rate(algorithm, script):
    run = free()
    sim = simulation(run, algorithm, lr=Cosine(0.3, 6, end=0.05), lr_decay=1.0)
    assert (path(sim) - script(Turning(**vars(run)))).abs().max() < 1e-12
    assert [row.lr for row in sim.history] == pytest.approx([Turning.eta(run, t) for t in range(5)])


def test_an_exponential_is_the_runs_own_decay_to_the_bit():
    run = free()
    ours = path(simulation(run, alg.FedAvg(), lr=Exponential(0.3, 0.9), lr_decay=1.0))
    assert torch.equal(ours, path(simulation(run, alg.FedAvg())))


YAML = """\
data: {name: digits}
partition: {name: iid, clients: 6}
model: {name: mlp, hidden: [4]}
algorithms:
  fedavg:
  sharp: {name: fedsam, rho: {name: ramp, start: 0.0, end: 0.05, rounds: 2}}
  gloss: {name: fedgloss, T_s: 2, local: {name: sam, rho: 0.05}}
rounds: 3
participation: 0.5
lr: {name: cosine, start: 0.1, rounds: 3}
threads: 1
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(YAML)
    return tmp_path / "tiny.yaml"


def rates(folder):
    """lr of every round, by label."""
    with open(f"runs/{folder}/history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    label = next(iter(rows[0]))
    return {r[label]: [float(x["lr"]) for x in rows if x[label] == r[label]] for r in rows}


def test_a_run_from_a_file(tiny):
    assert main(["run", str(tiny)]) == 0
    found = rates("tiny")
    assert found["fedavg"] == found["sharp"] == found["gloss"] == pytest.approx([0.1, 0.075, 0.025])
    assert (
        main(["run", "runs/tiny/config.yaml", "--out", "runs/tiny-2"]) == 0
    )  # what was saved is read again
    assert rates("tiny-2") == found
    with open("runs/tiny/summary.md") as file:
        assert "lr cosine (start 0.1, rounds 3, end 0.0)" in file.read()


def test_flags_reach_into_schedules(tiny):
    flags = ["--lr.start", "0.2", "--algorithms.sharp.rho.end", "0.5"]
    found = config.load(tiny, flags)
    assert found.lr == {"name": "cosine", "start": 0.2, "rounds": 3, "end": 0.0}
    assert found.algorithms["sharp"].options()["rho"]["end"] == 0.5
    found = config.load(tiny, ["--lr.name", "exponential", "--lr.start", "0.2", "--lr.decay", "1"])
    assert found.lr == {"name": "exponential", "start": 0.2, "decay": 1}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name: cosine, start", "name: cosin, start", "tiny.yaml:10: lr: expected a schedule"),
        ("start: 0.1, rounds: 3", "start: 0.1", "schedule cosine: needs rounds"),
        ("start: 0.1,", "start: -0.1,", "cosine, start: expected a finite number >= 0"),
        ("threads", "lr_decay: 0.9\nthreads", "tiny.yaml:11: lr_decay: lr is a schedule"),
        ("start: 0.0, end", "start: 0.0, ende", "schedule ramp, parameter: unknown name 'ende'"),
    ],
)
def test_mistakes_in_the_file_are_said_with_their_line(tiny, old, new, says):
    tiny.write_text(YAML.replace(old, new))
    with pytest.raises(config.ConfigError, match=says):
        config.load(tiny)
