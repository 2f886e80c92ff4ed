"""Comparisons against pandas, scipy's distributions and closed forms."""

import json
import math
import random
from html.parser import HTMLParser
from io import StringIO
from statistics import median

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from run_folders import DOWN, UP, history, write_run
from scipy import stats

import fedfast
from fedfast.comparison.paired import holm, paired
from fedfast.comparison.target import common_target, medians, parse_target, reached

NAN = math.nan
ROUND = DOWN + UP


def random_runs(seed, seeds=5, rounds=30, every=1, names=("fedavg", "fedsam", "fedgloss")):
    draw = random.Random(seed)
    return {
        name: [
            history([draw.random() if t % every == 0 else NAN for t in range(1, rounds + 1)])
            for _ in range(seeds)
        ]
        for name in names
    }


# ---- means, targets


@pytest.mark.parametrize("every", [1, 4])
def test_means_are_those_of_pandas(every):
    runs = random_runs(1, every=every)
    found = fedfast.compare(runs, last=3).to_pandas()
    for name, histories in runs.items():
        tested = [100 * h.to_pandas()["accuracy"].dropna() for h in histories]
        for column, values in {
            "final": [t.iloc[-1] for t in tested],
            "best": [t.max() for t in tested],
            "mean_of_last": [t.iloc[-3:].mean() for t in tested],
        }.items():
            expected = pd.Series(values)
            assert found.loc[name, column] == pytest.approx(expected.mean(), rel=1e-12)
            assert found.loc[name, f"{column}_std"] == pytest.approx(expected.std(), rel=1e-12)


accuracies = st.lists(st.one_of(st.just(NAN), st.floats(0, 1)), min_size=1, max_size=20)


@settings(max_examples=50)
@given(accuracies, st.floats(0, 1), st.integers(0, 9), st.integers(0, 9))
def test_a_target_is_reached_in_the_first_tested_round_as_good(values, target, down, up):
    frame = history(values, down, up).to_pandas()
    good = frame[frame.accuracy >= target]
    found = reached(history(values, down, up), "accuracy", target)
    assert bool(found) == (len(good) > 0)
    if len(good):
        assert found.round == good.index[0]
        assert found.bytes == (frame.bytes_down + frame.bytes_up).cumsum()[good.index[0]]


@settings(max_examples=50)
@given(st.lists(st.lists(accuracies, min_size=1, max_size=5), min_size=1, max_size=3))
def test_the_common_target_is_the_highest_with_medians_in_every_group(groups):
    made = [[history(values) for values in group] for group in groups]

    def reach(target):  # the groups in which the median run reaches it
        rounds = [[reached(h, "accuracy", target).round for h in group] for group in made]
        return {at for at, found in enumerate(rounds) if math.isfinite(median(found))}

    target = common_target(made, "accuracy")
    some = reach(0.0)  # those with a value in most of their runs
    assert (target is None) == (not some)
    if target is not None:
        assert reach(target) == some and reach(target + 1.01e-4) != some
        assert float(f"{target:.4f}") == target  # what is printed is what was used


def test_a_common_loss_is_the_lowest():
    runs = [[history([0.2, 0.6, 0.5])], [history([0.3, 0.4])]]  # losses 1 - these
    assert common_target(runs, "loss") == 0.6
    assert reached(runs[0][0], "loss", 0.6).round == 2
    assert reached(runs[1][0], "loss", 0.6).round == 2


def test_seeds_that_never_reach_the_target_are_later_than_all_others():
    curves = [[0.1, 0.5], [0.5, 0.5], [0.1, 0.1], [0.1, 0.1, 0.5], [0.1] * 9]

    def middle(*which):
        found = [reached(history(curves[i]), "accuracy", 0.5) for i in which]
        return medians(found)

    assert (middle(0, 1, 3).round, middle(0, 1, 3).bytes) == (2, 2 * ROUND)
    assert middle(0, 1, 3, 2).round == 2.5  # rounds 1, 2, 3, never
    assert middle(0, 1, 2).round == 2
    assert not middle(0, 2, 4) and not middle(0, 1, 2, 4)


def test_bytes_are_relative_to_the_baseline():
    """FedGloSS's Table 6: SCAFFOLD sends twice as much a round and needs 8.9k of 10k: 1.8 B."""
    slow = [history([0.001 * t for t in range(1, 101)]) for _ in range(3)]
    double = [history([0.001 * t + 0.0111 for t in range(1, 101)], 2 * DOWN, 2 * UP)] * 3
    found = fedfast.compare({"fedavg": slow, "scaffold": double}, target=0.1).to_pandas()
    assert found.rounds_to_target.tolist() == [100, 89]
    assert found.bytes_to_target.tolist() == [100 * ROUND, 2 * 89 * ROUND]
    assert found.relative_rounds.tolist() == [1, 0.89]
    assert found.relative_bytes.tolist() == [1, 1.78]


def test_rounds_to_a_target_are_tested_ones_and_their_bytes_include_the_untested():
    runs = {"fedavg": history([NAN, 0.3, NAN, 0.9, NAN, 0.95])}
    found = fedfast.compare(runs, target="50%").to_pandas()
    assert found.rounds_to_target.tolist() == [4] and found.bytes_to_target.tolist() == [4 * ROUND]


def test_losses_are_better_where_they_are_lower():
    runs = {"a": history([0.2, 0.9, 0.7]), "b": history([0.5, 0.6, 0.8])}
    found = fedfast.compare(runs, metric="loss", target=0.2, last=1)
    assert found.to_pandas().best.tolist() == pytest.approx([0.1, 0.2])
    assert found.to_pandas().rounds_to_target.tolist() == [2, 3]
    assert "**0.1000**" in found.to_markdown() and "**0.2000**" in found.to_markdown()


# ---- tests over seeds


@pytest.mark.parametrize("n", [2, 3, 7])
def test_paired_tests_against_the_formulas(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(80, 2, n), rng.normal(79, 2, n)
    found = paired(dict(enumerate(a)), dict(enumerate(b)))
    mean, error = np.mean(a - b), np.std(a - b, ddof=1) / math.sqrt(n)
    half = stats.t.ppf(0.975, n - 1) * error
    assert found.difference == pytest.approx(mean, rel=1e-12)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), rel=1e-9)
    assert found.t == pytest.approx(2 * stats.t.sf(abs(mean / error), n - 1), rel=1e-9)
    assert math.isnan(found.wilcoxon) == (n < 6)


def test_wilcoxon_of_six_gains_is_two_of_all_signs():
    ours = {seed: 80 + 0.1 * seed for seed in range(6)}
    theirs = {seed: 79.0 - 0.05 * seed**2 for seed in range(6)}
    assert paired(ours, theirs).wilcoxon == pytest.approx(2 / 2**6, rel=1e-12)


def test_only_seeds_of_both_are_paired():
    found = paired({0: 1.0, 1: 3.0, 5: 9.0, 7: NAN}, {1: 1.0, 0: 0.0, 6: 4.0, 7: 1.0})
    assert found.seeds == (0, 1) and found.difference == 1.5
    assert paired({0: 3.0}, {0: 1.0}).difference == 2.0 and math.isnan(paired({0: 3.0}, {0: 1.0}).t)
    assert math.isnan(paired({0: 3.0}, {1: 1.0}).difference)


@pytest.mark.parametrize("gain", [0.0, 1.5])
def test_equal_differences_have_no_p(gain):
    theirs = {0: 70.1, 1: 71.3, 2: 69.7}
    found = paired({seed: value + gain for seed, value in theirs.items()}, theirs)
    assert found.difference == pytest.approx(gain) and math.isnan(found.t) and math.isnan(found.low)


def test_holm():
    """R: p.adjust(c(0.03, 0.01, 0.04, 0.02), "holm") and p.adjust(c(0.01, 0.5, 0.005), "holm")."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.01, 0.5, 0.005]) == pytest.approx([0.02, 0.5, 0.015])
    with_none = holm([0.01, NAN, 0.005])
    assert with_none[::2] == [0.01, 0.01] and math.isnan(with_none[1])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_tests_are_corrected_over_the_groups():
    runs = random_runs(3, seeds=8)
    found = fedfast.compare(runs, last=5).to_pandas()
    for kind in ("t", "wilcoxon"):
        raw = found[f"p_{kind}"].iloc[1:]
        twice = np.minimum(1, 2 * raw.min())
        expected = [twice if p == raw.min() else max(p, twice) for p in raw]
        assert found[f"p_{kind}_holm"].iloc[1:].tolist() == pytest.approx(expected)
    assert found["pairs"].isna().tolist() == [True, False, False]


# ---- baselines, settings, notes


def folders(tmp_path, *runs):
    for i, (label, curve, fields) in enumerate(runs):
        write_run(tmp_path / f"{i}", {label: history(curve)}, **fields)
    return tmp_path


def alpha(value, **fields):
    return {"partition": {"name": "dirichlet", "clients": 10, "alpha": value}, **fields}


def two_settings(tmp_path):
    """Two labels under two skews, two seeds each; round 4 of 4 is the best."""
    return folders(
        tmp_path,
        *(
            (label, [0.1, 0.2, 0.3, top + 0.01 * seed], alpha(skew, seed=seed))
            for skew, tops in ((0.1, (0.4, 0.5)), (1.0, (0.8, 0.7)))
            for label, top in zip(("fedsam", "fedavg"), tops, strict=True)
            for seed in (0, 1)
        ),
    )


def test_each_setting_has_its_own_target_and_baseline(tmp_path):
    found = fedfast.compare(two_settings(tmp_path))
    frame = found.to_pandas()
    assert frame.index.tolist() == [
        f"{label} alpha={skew}" for skew in (0.1, 1.0) for label in ("fedsam", "fedavg")
    ]
    assert frame.setting.tolist() == ["alpha=0.1"] * 2 + ["alpha=1.0"] * 2
    assert frame.target.tolist() == pytest.approx([40, 40, 70, 70])
    assert frame.baseline.tolist() == ["fedavg alpha=0.1"] * 2 + ["fedavg alpha=1.0"] * 2
    assert "40% (alpha=0.1), 70% (alpha=1.0)" in found.to_markdown()
    assert found.to_latex().count(r"\midrule") == 3  # heads, blocks; heads of the tests
    assert not [note for note in found.notes if "not all else" in note]


@pytest.mark.parametrize("name", ["fedsam", "fedsam alpha=1.0"])
def test_a_baseline_is_named_by_group_or_label(tmp_path, name):
    found = fedfast.compare(two_settings(tmp_path), baseline=name).to_pandas()
    assert found.baseline.tolist() == ["fedsam alpha=0.1"] * 2 + ["fedsam alpha=1.0"] * 2


def test_a_label_of_several_groups_is_no_baseline(tmp_path):
    runs = folders(tmp_path, ("fedavg", [0.5], {"lr": 0.1}), ("fedavg", [0.5], {"lr": 0.2}))
    with pytest.raises(ValueError, match=r"baseline: .*several: 'fedavg lr=0.1', 'fedavg lr=0.2'"):
        fedfast.compare(runs, baseline="fedavg")
    assert fedfast.compare(runs, baseline="fedavg lr=0.2").blocks[0].baseline == "fedavg lr=0.2"


def test_the_first_group_is_the_baseline_where_there_is_no_fedavg():
    runs = {"b": history([0.5]), "a": history([0.6])}
    assert fedfast.compare(runs).blocks[0].baseline == "b"
    assert fedfast.compare({**runs, "FedAvg": history([0.1])}).blocks[0].baseline == "FedAvg"


def test_what_is_not_equal_is_said(tmp_path):
    runs = folders(
        tmp_path,
        ("fedavg", [0.5] * 4, {"seed": 0}),
        ("fedavg", [0.5] * 3, {"seed": 1}),
        ("fedsam", [0.5] * 4, {"seed": 1, "lr": 0.2}),
        ("fednsam", [0.5] * 4, {"seed": 2}),
    )
    notes = fedfast.compare(runs, last=4).notes
    assert "fedavg: seed 1 unfinished, 3 of 4 rounds" in notes
    assert "fewer than 4 tested rounds, of which the mean is: 3 (fedavg)" in notes
    assert "a paired test needs 2 seeds in common with fedavg: fedsam, fednsam" in notes
    assert "fednsam: not in the paired test: seed 2 and seeds 0, 1 of fedavg" in notes
    assert any(n.startswith("warning: not all else is equal: lr: 0.") for n in notes)
    assert "rho: 0.1 (fedsam), 0.05 (fednsam)" in notes


def test_a_seed_without_a_value_leaves_no_mean():
    found = fedfast.compare({"fedavg": [history([0.5]), history([NAN])]})
    assert "fedavg: seed 1 without accuracy: no mean over seeds" in found.notes
    assert math.isnan(found.to_pandas().final.iloc[0]) and "| –" in found.to_markdown()


# ---- formats


def shown():
    """Values with more digits than are shown, one group that most seeds do not finish."""
    runs = random_runs(5, seeds=3, rounds=12)
    runs["fedsam"] = [history([0.1] * 12)] * 2 + runs["fedsam"][:1]
    runs["a|b_c & 50%"] = runs.pop("fedgloss")
    return fedfast.compare(runs, target=0.8)


def cells(line):
    return [cell.strip().strip("*") for cell in line.replace("\\|", "!").strip("| ").split("|")]


def check_rows(rows, frame):
    """The text cells of the table of results against the numbers."""
    for row, (_, line) in zip(rows, frame.iterrows(), strict=True):
        means = [
            f"{line[n]:.2f} ± {line[f'{n}_std']:.2f}" for n in ("final", "best", "mean_of_last")
        ]
        assert row[1:6] == ["3", "12", *means]
        some = "" if line.seeds_that_reached in (0, 3) else f" ({line.seeds_that_reached} of 3)"
        there = math.isfinite(line.rounds_to_target)
        assert row[6] == (f"{line.rounds_to_target:g}" if there else "–") + some
        assert row[8] == (f"{line.bytes_to_target / 1000:.3g} kB" if there else "–")
        assert row[9] == (f"{line.relative_bytes:.2f}×" if there else "–")


def test_markdown_has_the_numbers():
    found = shown()
    lines = found.to_markdown().split("\n")
    assert cells(lines[0])[6:9] == ["rounds to 80%", "relative rounds", "bytes to 80%"]
    check_rows([cells(line) for line in lines[2:5]], found.to_pandas())
    assert "– (1 of 3)" in lines[3] and "(k of n)" in found.to_markdown()
    bold = {line.split("**")[1] for line in lines[2:5] if "**" in line}
    assert f"{found.to_pandas().final.max():.2f}" in {text.split(" ")[0] for text in bold}


class _Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.inside = [], False

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        self.inside = tag == "td"

    def handle_data(self, data):
        if self.inside:
            self.rows[-1].append(data.strip())

    def handle_endtag(self, tag):
        self.inside = False


def test_html_has_the_numbers():
    found, parser = shown(), _Cells()
    parser.feed(found._repr_html_())
    rows = [row for row in parser.rows if row]
    check_rows(rows[:3], found.to_pandas())
    assert rows[2][0] == "a|b_c & 50%" and len(rows) == 5  # two tests


def test_latex_reads_no_label_as_an_option_of_the_row_above():
    from fedfast.comparison.formats import tex

    assert tex("[2] *a|b") == r"{[}2{]} {*}a\textbar{}b"


def test_latex_is_a_booktabs_table_with_the_numbers():
    found = shown()
    text = found.to_latex("tab:mine")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].split("\n")[1:-1]
    rows = [[c.strip().removeprefix(r"\bfseries ") for c in r.split(" & ")] for r in body]
    plain = [[c.removesuffix(r" \\").replace(r"$\pm$", "±") for c in row] for row in rows]
    back = [[c.replace(r"$\times$", "×").replace("--", "–") for c in row] for row in plain]
    check_rows([[row[0], "3", "12", *row[1:]] for row in back], found.to_pandas())
    assert rows[2][0] == r"a\textbar{}b\_c \& 50\%" and r"\label{tab:mine}" in text
    columns = text[text.index("{tabular}") :].split("{")[2].split("}")[0]
    assert columns == "l" + "r" * (len(rows[0]) - 1) == "lrrrrrrr"
    assert "3 seeds, 12 rounds." in text


def test_other_programs_read_the_same_numbers():
    found = shown()
    frame = found.to_pandas()
    read = pd.read_csv(StringIO(found.to_csv()), index_col="group")
    for column in ("final", "best_std", "bytes_to_target", "difference_low", "p_t_holm"):
        np.testing.assert_array_equal(read[column], frame[column].astype(float))
    kept = json.loads(found.to_json())
    for group, (name, line) in zip(kept["groups"], frame.iterrows(), strict=True):
        assert group["group"] == name and group["final"] == line.final
        finals = [one["final"] for one in group["values"]]
        assert np.mean(finals) == pytest.approx(line.final, rel=1e-15)
    assert kept["groups"][1]["rounds_to_target"] is None


@pytest.mark.parametrize("width", [60, 80, 120, 130])
def test_the_terminal_shows_what_fits(width):
    file, found = StringIO(), shown()
    found.print(Console(file=file, width=width, highlight=False))
    lines = file.getvalue().split("\n")
    assert max(map(len, lines)) <= width
    assert ("No room for: " in file.getvalue()) == (width < 130)
    for name, line in found.to_pandas().iterrows():
        row = next(text for text in lines if text.strip().startswith(name[:5]))
        assert f"{line.mean_of_last:.2f} ± {line.mean_of_last_std:.2f}" in row
        assert width < 80 or f"{line.relative_bytes:.2f}×" in row or name == "fedsam"
        assert (f"{line.best:.2f} ± {line.best_std:.2f}" in row) == (width >= 120)


# ---- arguments


@pytest.mark.parametrize(
    ("target", "metric", "expected"),
    [
        (0.8, "accuracy", 0.8),
        ("80%", "accuracy", 0.8),
        (" 29 %", "accuracy", 0.29),
        ("0.5", "personal_accuracy", 0.5),
        ("baseline", "loss", "baseline"),
        (2, "loss", 2.0),
    ],
)
def test_targets(target, metric, expected):
    assert parse_target(target, metric) == expected


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"target": 80}, r"target: .*0 to 1; got 80; did you mean 80%\?"),
        ({"target": "180%"}, "target: .*got 180%$"),
        ({"target": "high"}, "target: .*got 'high'"),
        ({"target": NAN}, "target: "),
        ({"target": "8%", "metric": "loss"}, "target: expected a number, or baseline; got '8%'"),
        ({"baseline": "fedagv"}, "baseline: .*did you mean 'fedavg'"),
        ({"baseline": 3}, "baseline: expected a name; got 3"),
        ({"equal": "byte"}, "equal: .*did you mean 'bytes'"),
        ({"last": 0}, "last: expected at least 1"),
        ({"metric": "acuracy"}, "metric: .*did you mean 'accuracy'"),
        ({"metric": "personal_accuracy"}, "no run has personal_accuracy; they have accuracy, loss"),
    ],
)
def test_arguments_are_checked(options, match):
    with pytest.raises((ValueError, TypeError), match=match):
        fedfast.compare({"fedavg": history([0.5])}, **options)


@pytest.mark.parametrize(
    "runs", [{}, [], {"a": []}, {"a": [1]}, {1: history([0.5])}, {"a": history([])}]
)
def test_what_is_no_run_is_refused(runs):
    with pytest.raises((ValueError, TypeError), match="runs: expected"):
        fedfast.compare(runs)


def test_a_note_lists_no_names_that_say_its_values_themselves():
    from fedfast.comparison.notes import _by_value
    from fedfast.comparison.samples import Group

    low, high = (Group(f"a lr={lr}", "a", {}, {"lr": lr}) for lr in (0.1, 0.2))
    assert _by_value([low, high], "lr") == "0.1, 0.2"
    other = Group("b", "b", {}, {"lr": 0.3})
    assert _by_value([low, high, other], "lr") == "0.1 (a lr=0.1), 0.2 (a lr=0.2), 0.3 (b)"


@pytest.mark.parametrize(("column", "more"), [("cosine_pairs", True), ("drift_mean", False)])
def test_columns_of_metrics_are_compared_by_their_own_direction(column, more):
    """Two seeds each: the target is reached where the column is as high, or as low."""
    values = {"fedavg": [[3.0, 2.0, 1.0]] * 2, "fedsam": [[1.0, 2.0, 3.0]] * 2}
    runs = {
        label: [
            fedfast.History(
                fedfast.Row(t + 1, bytes_up=1, measured={column: v}) for t, v in enumerate(of)
            )
            for of in seeds
        ]
        for label, seeds in values.items()
    }
    found = fedfast.compare(runs, metric=column, target=2.0, last=1).to_pandas()
    assert found["best"].tolist() == ([3.0, 3.0] if more else [1.0, 1.0])
    assert found["final"].tolist() == [1.0, 3.0]  # no percentages
    assert found["rounds_to_target"].tolist() == ([1, 2] if more else [2, 1])
    with pytest.raises(ValueError, match="unknown name 'conflicts'; .*" + column):
        fedfast.compare(runs, metric="conflicts")
