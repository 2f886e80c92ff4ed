"""Rounds and bytes to a baseline's accuracy, and who is ahead at equal cost, by hand."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_folders import DOWN, UP, history, write_run

import fedfast
from fedfast.cli import main

NAN = math.nan
ROUND = DOWN + UP


@pytest.fixture
def table6():
    """Shaped as FedGloSS's Table 6: FedAvg ends at 60 %, over ten rounds; two seeds."""
    rising = [0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.65, 0.6, 0.5, 0.7]  # mean of the last four 61.25
    other = [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.6, 0.6, 0.55, 0.6]  # 58.75: together 60.00
    fast = [0.2, 0.59, 0.6, 0.7, 0.7, 0.7, 0.7, 0.8, 0.8, 0.8]
    late = [0.1, 0.1, 0.2, 0.3, 0.61, 0.7, 0.7, 0.7, 0.8, 0.9]
    never = [0.1] * 10
    return {
        "fedavg": [history(rising), history(other)],
        "fedgloss": [history(fast), history(late)],
        "fedsmoo": [history(fast, 2 * DOWN, 2 * UP), history(fast, 2 * DOWN, 2 * UP)],
        "scaffold": [history(never), history(fast)],
    }


def test_the_target_is_what_the_baseline_comes_to(table6):
    found = fedfast.compare(table6, target="baseline", last=4).to_pandas()
    assert found.target.tolist() == pytest.approx([60.0] * 4)
    # FedAvg has reached 60 % in rounds 7 and 7, and is its own measure: all rounds, 1 B.
    assert found.rounds_to_target.tolist() == [10, 4, 3, math.inf]
    assert found.bytes_to_target.tolist() == [10 * ROUND, 4 * ROUND, 6 * ROUND, math.inf]
    assert found.relative_rounds.tolist()[:3] == [1, 0.4, 0.3]
    assert found.relative_bytes.tolist()[:3] == pytest.approx([1, 0.4, 0.6])
    assert math.isnan(found.relative_bytes["scaffold"])  # one of two seeds: no median


def test_another_baseline_has_another_target(table6):
    found = fedfast.compare(table6, target="baseline", baseline="fedsmoo", last=4).to_pandas()
    assert found.target.tolist() == [77.5] * 4  # 0.7, 0.8, 0.8, 0.8
    assert found.rounds_to_target["fedsmoo"] == 10 and found.relative_bytes["fedsmoo"] == 1
    assert found.bytes_to_target["fedgloss"] == 8.5 * ROUND  # rounds 8 and 9
    assert found.relative_bytes["fedgloss"] == 8.5 / 20
    assert found.rounds_to_target["fedavg"] == math.inf


def test_losses_come_down_to_the_baseline():
    runs = {"fedavg": history([0.2, 0.4, 0.5]), "fast": history([0.2, 0.5, 0.5])}
    found = fedfast.compare(runs, "baseline", metric="loss", last=2).to_pandas()
    assert found.target.tolist() == [0.55, 0.55]
    assert found.rounds_to_target.tolist() == [3, 2]


def test_the_target_is_printed_as_it_was_used():
    thirds = [history([0.3, a]) for a in (0.5, 0.5, 0.6)]  # 53.333... %
    found = fedfast.compare({"fedavg": thirds, "b": thirds}, "baseline", last=1)
    assert found.to_pandas().target.tolist() == pytest.approx([53.33] * 2, rel=1e-12)
    text = found.to_markdown()
    assert "rounds to 53.33%" in text and "what the baseline comes to, 53.33%" in text
    assert "Relative to fedavg, whose line has its whole runs" in text


def test_settings_have_targets_of_their_own_and_may_lack_a_baseline(tmp_path):
    for alpha, runs in {
        0.1: {"fedavg": history([0.2, 0.3]), "fedsam": history([0.3, 0.4])},
        1.0: {"fedavg": history([0.6, 0.8]), "fedsam": history([0.7, 0.7])},
        5.0: {"fedsam": history([0.9, 0.9])},
    }.items():
        where = {"partition": {"name": "dirichlet", "clients": 10, "alpha": alpha}}
        write_run(tmp_path / str(alpha), runs, **where)
    found = fedfast.compare(tmp_path, "baseline", "fedavg", last=1)
    frame = found.to_pandas()
    assert frame.target.tolist()[:4] == [30, 30, 80, 80] and math.isnan(frame.target.iloc[4])
    assert frame.rounds_to_target.tolist() == [2, 1, 2, math.inf, math.inf]
    text = found.to_markdown()
    assert re.search(r"30% \(.*alpha=0\.1.*\), 80% \(.*alpha=1", text)


def test_ahead_at_equal_rounds_and_at_equal_bytes():
    """The dear method leads by rounds, the cheap one by bytes."""
    runs = {
        "fedavg": [history([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])],
        "dear": [history([0.2, 0.3, 0.4, 0.5], 2 * DOWN, 2 * UP)],
        "cheap": [history([0.1, NAN, 0.2, 0.4, NAN, 0.45, NAN], DOWN // 2, UP // 2)],
    }
    found = fedfast.compare(runs, last=2, equal="rounds,bytes")
    frame = found.to_pandas()
    assert frame.rounds_at_equal_rounds.tolist() == [4, 4, 4]
    assert frame.mean_at_equal_rounds.tolist() == pytest.approx([35, 45, 30])
    assert frame.bytes_at_equal_rounds.tolist() == [4 * ROUND, 8 * ROUND, 2 * ROUND]
    # "cheap" was tested last in round 6 of half the bytes: three rounds of fedavg, one of "dear"
    assert frame.rounds_at_equal_bytes.tolist() == [3, 1, 6]
    assert frame.mean_at_equal_bytes.tolist() == pytest.approx([25, 20, 42.5])
    rounds, spent = (rows(found, f"at equal {kind}") for kind in ("rounds", "bytes"))
    assert rounds["dear"][-2:] == ["**45.00**", "+10.00"] and rounds["fedavg"][-1] == "–"
    assert spent["cheap"][-2:] == ["**42.50**", "+17.50"] and spent["dear"][-1] == "−5.00"
    assert found.to_latex().count(r"\begin{table}") == 3
    for name in ("tab:comparison}", "tab:comparison-rounds}", "tab:comparison-bytes}"):
        assert found.to_latex().count(name) == 1
    assert json.loads(found.to_json())["groups"][2]["mean_at_equal_bytes"] == pytest.approx(42.5)


def rows(found, caption):
    """Group -> cells of the Markdown table above this caption."""
    blocks = found.to_markdown().split("\n\n")
    at = next(i for i, text in enumerate(blocks) if caption in text)
    cells = [line.strip("| ").split(" | ") for line in blocks[at - 1].splitlines()[2:]]
    return {row[0]: row[1:] for row in cells}


accuracies = st.lists(st.one_of(st.just(NAN), st.floats(0, 1)), min_size=1, max_size=12)


@settings(max_examples=40)
@given(st.lists(accuracies, min_size=2, max_size=4), st.lists(st.integers(1, 5), min_size=4))
def test_equal_bytes_against_pandas(curves, prices):
    made = [history(a, price, 0) for a, price in zip(curves, prices, strict=False)]
    frames = [h.to_pandas() for h in made]
    tested = [f[f.accuracy.notna()] for f in frames]
    if not all(map(len, tested)):
        return
    sent = [f.bytes_down.cumsum() for f in frames]
    budget = min(s[t.index[-1]] for s, t in zip(sent, tested, strict=True))
    runs = {f"run{i}": h for i, h in enumerate(made)}
    found = fedfast.compare(runs, equal=["bytes"], last=3).to_pandas()
    for i, (s, t) in enumerate(zip(sent, tested, strict=True)):
        within = t[s[t.index] <= budget].accuracy
        expected = 100 * within.tail(3).mean() if len(within) else NAN
        np.testing.assert_allclose(found.mean_at_equal_bytes.iloc[i], expected, rtol=1e-12)


def test_on_the_command_line_and_in_the_report(table6, tmp_path, capsys):
    for seed in (0, 1):
        runs = {name: of[seed] for name, of in table6.items()}
        write_run(tmp_path / "runs" / str(seed), runs, seed=seed)
    flags = ["--target", "baseline", "--baseline", "fedavg", "--last", "4", "--equal", "bytes"]
    assert main(["compare", str(tmp_path / "runs"), *flags, "--format", "latex"]) == 0
    text = capsys.readouterr().out
    assert r"rounds\\to 60\%" in text and r"0.40$\times$" in text
    out = ["--out", str(tmp_path / "out"), "--format", "svg"]
    assert main(["report", str(tmp_path / "runs"), *flags, *out]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "what the baseline comes to, 60%" in page and "at equal bytes" in page
