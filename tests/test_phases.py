"""Phases of a round, and the trace that `fedfast run --profile` keeps of them."""

import json
import math
import time
from itertools import count

import numpy as np
import pytest
import torch
from fedfast.kernels.profile import OperationTotal

import fedfast
from fedfast import phases
from fedfast.cli import main
from fedfast.data import FederatedData, Samples
from fedfast.models import build
from fedfast.phases import INDEX, PHASES, Profile, phase, recording, timed
from fedfast.report import trace

TINY = """\
data: {name: digits}
partition: {name: iid, clients: 6}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, sharp: {name: fedsam, rho: 0.05}}
rounds: 2
participation: 0.5
batch_size: 50
threads: 1
"""
SIZES = (7, 3, 12, 5)


def simulation(algorithm, threads=1):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(SIZES), 6, generator=generator)
    y = torch.arange(sum(SIZES)) % 3
    ends = np.cumsum([0, *SIZES])
    owned = [np.arange(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]
    data = FederatedData.from_index(Samples(x, y), owned)
    model = build("mlp", input_shape=(6,), classes=3, seed=0, hidden=[5])
    named = fedfast.algorithms.by_name(algorithm)
    options = dict(participation=1.0, batch_size=4, lr=0.1, threads=threads)
    return fedfast.Simulation(model, data, named, rounds=2, **options)


def test_what_lies_in_a_phase_is_not_its_own(monkeypatch):
    ticks = count(0, 1_000_000_000)
    profile = Profile(spans=10)
    with recording(profile):
        monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks))
        with phase("step"):  # 0 to 5
            with phase("gather"):  # 1 to 4
                timed("step")(lambda: None)()  # 2 to 3
        with pytest.raises(KeyError), phase("state"):  # 6 to 7
            raise KeyError
        monkeypatch.undo()
    found = {name: taken for name, taken in profile.seconds().items() if taken}
    assert found == {"step": 3.0, "gather": 2.0, "state": 1.0}
    assert [(s.name, s.begin // 10**9, s.end // 10**9) for s in profile.spans] == [
        ("step", 2, 3), ("gather", 1, 4), ("step", 0, 5), ("state", 6, 7),
    ]  # fmt: skip


def test_a_plan_s_time_goes_to_the_phases_that_its_operations_are_of():
    inside, gather, step = (INDEX[name] for name in ("forward_backward", "gather", "step"))
    profile = Profile()
    profile.of_thread().own.update(forward_backward=10**10, step=10**9)
    profile.totals = [
        OperationTotal("plan", inside, -1, 1, 8 * 10**9),  # of 10 s, on two threads
        OperationTotal("linear", inside, inside, 5, 9 * 10**9),
        OperationTotal("gather", gather, inside, 5, 3 * 10**9),
        OperationTotal("linear", -1, inside, 5, 10**9),
        OperationTotal("adam", step, inside, 5, 3 * 10**9),
        OperationTotal("mix", step, -1, 5, 5 * 10**9),  # a direct call: its phase has its time
    ]
    found = {name: taken for name, taken in profile.seconds().items() if taken}
    assert found == {
        "forward_backward": pytest.approx(10 - 8 * 6 / 16),
        "gather": pytest.approx(8 * 3 / 16),
        "step": pytest.approx(1 + 8 * 3 / 16),
    }


@pytest.mark.parametrize(("algorithm", "passes"), [("fedavg", 1), ("fedsam", 2)])
def test_every_client_s_step_is_counted(algorithm, passes):
    profile = Profile(spans=1000, calls=1000)
    profiled, plain = simulation(algorithm), simulation(algorithm)
    plain.run(progress=False)
    with recording(profile):
        begin = time.perf_counter()
        profiled.run(progress=False)
        whole = time.perf_counter() - begin
    steps = 2 * sum(math.ceil(size / 4) for size in SIZES)
    calls = {}
    for one in trace.operations(profile):
        calls[one["name"]] = calls.get(one["name"], 0) + one["calls"]
    assert calls["cross_entropy"] == passes * steps
    assert len([c for c in profile.calls if c.name == "cross_entropy"]) == passes * steps
    assert [s.name for s in profile.spans if s.name not in PHASES] == ["round 1", "round 2"]
    found = profile.seconds()
    assert 0 < sum(found.values()) <= whole
    assert {"schedule", "gather", "forward_backward", "aggregate"} <= {
        k for k, v in found.items() if v
    }
    assert (found["perturb"] > 0) == (algorithm == "fedsam")
    assert all(
        torch.equal(a, b)
        for a, b in zip(*(sim.state_dict().values() for sim in (profiled, plain)), strict=True)
    )


def test_nothing_is_kept_without_a_profile():
    profile = Profile(spans=10, calls=10)
    with recording(profile):
        pass
    simulation("fedavg").run(progress=False)
    profile.fetch()
    assert not profile.spans and not profile.calls and not profile.totals
    with recording(profile), pytest.raises(RuntimeError), recording(Profile()):
        pass
    assert phases._profile is None


def nested(events):
    """Whether no two complete events of a thread overlap without one lying in the other."""
    ends = {}
    for e in sorted((e for e in events if e["ph"] == "X"), key=lambda e: (e["ts"], -e["dur"])):
        begin, end = round(1e3 * e["ts"]), round(1e3 * (e["ts"] + e["dur"]))
        stack = ends.setdefault(e["tid"], [])
        while stack and stack[-1] <= begin:
            stack.pop()
        if stack and end > stack[-1]:
            return False
        stack.append(end)
    return True


@pytest.mark.parametrize("module", [False, True])
def test_the_trace_is_one_that_perfetto_opens(module, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = TINY.replace("mlp, hidden: [8]", "traced:net") if module else TINY
    (tmp_path / "traced.py").write_text(
        "from torch import nn\n"
        "def net(input_shape, classes):\n"
        "    layers = nn.Linear(64, 4), nn.Softshrink(), nn.Linear(4, 10)\n"
        "    return nn.Sequential(nn.Flatten(), *layers)\n"
    )
    (tmp_path / "tiny.yaml").write_text(text)
    assert main(["run", "tiny.yaml", "--profile", "--out", "r"]) == 0
    assert "profile/fedavg.json  profile/sharp.json" in capsys.readouterr().out
    for label in ("fedavg", "sharp"):
        found = json.loads((tmp_path / "r" / "profile" / f"{label}.json").read_text())
        events = found["traceEvents"]
        # The fields that the format requires of complete events and of metadata.
        for e in events:
            assert {"name", "ph", "pid", "tid"} <= e.keys() and e["ph"] in "XM"
            assert e["ph"] == "M" or (e["ts"] >= 0 and e["dur"] >= 0 and e["cat"])
        assert nested(events)
        names = {e["name"] for e in events}
        operations = {"aten::addmm"} if module else {"linear", "linear_backward", "cross_entropy"}
        assert {"round 1", "round 2", "forward_backward", "evaluate", *operations} <= names
        main_thread = [e["tid"] for e in events if e["name"] == "round 1"]
        rounds = [e for e in events if e["tid"] in main_thread and e["ph"] == "X"]
        inside = [e for e in rounds if e["name"] == "forward_backward"]
        first = next(e for e in rounds if e["name"] == "round 1")
        assert any(first["ts"] < e["ts"] < first["ts"] + first["dur"] for e in inside)
        assert found["otherData"]["rounds"] == "1 to 2" and found["otherData"]["complete"]
