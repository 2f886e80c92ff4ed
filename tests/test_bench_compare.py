"""`bench/compare.py` on made runs: what is told slower, faster, new, missing or damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import compare  # noqa: E402

KINDS = ({"bytes": 1e8}, {"flops": 1e9}, {"samples": 50.0}, {"bytes": 1e8, "flops": 1e9})
RATES = {"sgemm": 1e11, "copy": 1e10}
NAMES = [f"bench_x.py::test_{i}" for i in range(len(KINDS))]
few = settings(max_examples=40, deadline=None)
JUDGES = compare.Change.slower, compare.Change.faster


def entry(name, seconds, kind, slowness=1.0, noise=(), contestant=None, sgemm=1.0, copy=1.0):
    """A benchmark of `seconds` on a machine that is `slowness` times as slow.

    noise: q1, median and q3 over the least time, 1 unless given
    """
    times = dict.fromkeys(("min", "q1", "median", "q3"), seconds * slowness)
    times |= {key: times[key] * n for key, n in zip(("q1", "median", "q3"), noise, strict=False)}
    rates = {"sgemm": RATES["sgemm"] * sgemm / slowness, "copy": RATES["copy"] * copy / slowness}
    yardsticks = {name: {"best": rate, "median": rate} for name, rate in rates.items()}
    return {
        "fullname": name,
        "group": "x",
        "params": {"contestant": contestant} if contestant else None,
        "stats": times,
        "extra_info": kind | {"yardsticks": yardsticks},
    }


def run_of(path, *entries):
    path.write_text(json.dumps({"benchmarks": list(entries), "machine_info": {}}))
    return path


def verdicts(old, new, limit=0.15):
    before, after = compare.ours(old), compare.ours(new)
    changes = [compare.change(before[name], after[name]) for name in before if name in after]
    return {c.name for c in changes if c.slower(limit)}, {
        c.name for c in changes if c.faster(limit)
    }


positive = st.floats(1e-6, 10.0)


@few
@given(seconds=st.lists(positive, min_size=4, max_size=4), slowness=st.floats(0.05, 20.0))
def test_a_machine_that_is_slower_in_all_flags_nothing(tmp_path_factory, seconds, slowness):
    folder = tmp_path_factory.mktemp("runs")
    rows = list(zip(NAMES, seconds, KINDS, strict=True))
    old = run_of(folder / "old.json", *(entry(*row) for row in rows))
    new = run_of(folder / "new.json", *(entry(*row, slowness=slowness) for row in rows))
    assert verdicts(old, new) == (set(), set())
    assert compare.main([str(old), str(new)]) == 0


@few
@given(
    seconds=st.lists(positive, min_size=4, max_size=4),
    slowness=st.floats(0.05, 20.0),
    which=st.integers(0, 3),
    factor=st.floats(1.2, 50.0),
)
def test_the_one_that_became_slower_is_told(tmp_path_factory, seconds, slowness, which, factor):
    folder = tmp_path_factory.mktemp("runs")
    rows = list(zip(NAMES, seconds, KINDS, strict=True))
    old = run_of(folder / "old.json", *(entry(*row) for row in rows))
    changed = [
        entry(name, s * (factor if i == which else 1.0), kind, slowness=slowness)
        for i, (name, s, kind) in enumerate(rows)
    ]
    new = run_of(folder / "new.json", *changed)
    assert verdicts(old, new) == ({NAMES[which]}, set())
    assert compare.main([str(old), str(new)]) == 1
    assert verdicts(new, old) == (set(), {NAMES[which]})
    assert compare.main([str(new), str(old)]) == 0


def test_each_kind_is_held_against_its_own_yardstick(tmp_path):
    old = run_of(
        tmp_path / "old.json", *(entry(n, 1.0, k) for n, k in zip(NAMES, KINDS, strict=True))
    )
    # twice the product's rate, and times as before: who multiplies has missed the speed-up
    new = [entry(n, 1.0, k, sgemm=2.0) for n, k in zip(NAMES, KINDS, strict=True)]
    assert verdicts(old, run_of(tmp_path / "new.json", *new)) == ({NAMES[1]}, set())
    new = [entry(n, 1.0, k, copy=2.0) for n, k in zip(NAMES, KINDS, strict=True)]
    assert verdicts(old, run_of(tmp_path / "new.json", *new)) == ({NAMES[0]}, set())


@pytest.mark.parametrize(
    ("seconds", "noise", "told"),
    [
        (1.0, (3.0, 4.0, 5.0), False),  # the least time is as before
        (1.2, (0.9, 0.95, 1.0), False),  # the median is not beyond the limit
        (1.2, (0.8, 1.0, 1.3), False),  # a quarter of the times was shorter than those before
        (1.2, (1.0, 1.1, 1.3), True),
    ],
)
def test_noise_is_not_told(tmp_path, seconds, noise, told):
    old = run_of(tmp_path / "old.json", entry("a", 1.0, KINDS[0]))
    new = run_of(tmp_path / "new.json", entry("a", seconds, KINDS[0], noise=noise))
    assert verdicts(old, new) == ({"a"} if told else set(), set())


def test_the_limit_is_the_users(tmp_path):
    old = run_of(tmp_path / "old.json", entry("a", 1.0, KINDS[0]))
    new = run_of(tmp_path / "new.json", entry("a", 1.12, KINDS[0]))
    assert compare.main([str(old), str(new)]) == 0
    assert compare.main([str(old), str(new), "--fail-over", "10"]) == 1


def test_new_and_missing_ones_are_listed_and_others_than_ours_left_out(tmp_path, capsys):
    kind = KINDS[0]
    torch = [entry("c[torch]", s, kind, contestant="foreach") for s in (1.0, 9.0)]
    old = run_of(tmp_path / "old.json", entry("a", 1, kind), entry("gone", 1, kind), torch[0])
    new = run_of(tmp_path / "new.json", entry("a", 1, kind), entry("added[2]", 1, kind), torch[1])
    assert compare.main([str(old), str(new)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 benchmarks in both: 0 slower and 0 faster by more than 15 %",
        "only in old.json: gone",
        "only in new.json: added[2]",
    ]


def test_the_table_has_what_changed_and_with_all_every_one(tmp_path, capsys):
    old = [entry(name, 0.5, KINDS[0]) for name in ("same[1]", "slow[2]")]
    new = [entry("same[1]", 0.5, KINDS[0]), entry("slow[2]", 0.75, KINDS[0])]
    files = [str(run_of(tmp_path / "old.json", *old)), str(run_of(tmp_path / "new.json", *new))]
    assert compare.main(files) == 1
    table = capsys.readouterr().out
    assert "same[1]" not in table
    row = next(line for line in table.splitlines() if "slow[2]" in line)
    assert row.replace("│", " ").split() == ["slow[2]", "500", "750", "1.50", "1.50", "slower"]
    assert compare.main([*files, "--all"]) == 1
    assert "same[1]" in capsys.readouterr().out


def damage(text, cut, change):
    """A file that was cut short, or whose numbers are none."""
    return text[: int(cut * len(text))] if change is None else text.replace("1.0", change)


@few
@given(cut=st.floats(0, 0.99), change=st.sampled_from([None, "NaN", "-1", "0", '"a"', "null"]))
def test_a_damaged_file_ends_in_one_line(tmp_path_factory, cut, change):
    folder = tmp_path_factory.mktemp("runs")
    good = run_of(folder / "good.json", entry("a", 1.0, KINDS[0]))
    bad = folder / "bad.json"
    bad.write_text(damage(good.read_text(), cut, change))
    for files in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match=r"^\S*bad\.json: no run of make bench: .+$") as caught:
            verdicts(*files)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\x00", "no run of make bench: the file: Invalid JSON"),
        (b"[]", "no run of make bench: the file: Input should be an object"),
        (b"{}", "no run of make bench: benchmarks: Field required"),
        (b'{"benchmarks": []}', "expected a benchmark that is in"),
        (None, "No such file"),
    ],
)
def test_the_command_line_says_what_is_wrong(tmp_path, content, told):
    good, bad = run_of(tmp_path / "good.json", entry("a", 1.0, KINDS[0])), tmp_path / "bad.json"
    if content is not None:
        bad.write_bytes(content)
    script = [sys.executable, str(BENCH / "compare.py"), str(good), str(bad)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("compare.py: ") and told in done.stderr
    assert done.stderr.count("\n") == 1 and "bad.json" in done.stderr
