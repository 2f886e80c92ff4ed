"""What docs/benchmarks.md says of other simulators, and docs/peers.png, from results/peers.csv."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from result_files import RESULTS
from workloads import WORKLOADS

from .environments import CONTESTANTS
from .task_files import ALGORITHMS

PICTURE = "peers.png"
BUSY = 0.25  # share of others from which figures are called rough
DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- peers: written by bench_peers.py -->", "<!-- end of peers -->"
NAMES = {"fedavg": "FedAvg", "fedprox": "FedProx", "scaffold": "SCAFFOLD", "fedsam": "FedSAM"}
TITLES = {c.name: c.title for c in CONTESTANTS}


def write() -> None:
    """Renew the text between the markers and the picture."""
    found = newest(pd.read_csv(RESULTS / "peers.csv", keep_default_na=False, na_values=[""]))
    page = DOCS / "benchmarks.md"
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{text(found)}\n{END}{after}")
    picture(found, DOCS / PICTURE)


def newest(rows: pd.DataFrame) -> pd.DataFrame:
    """The last row of every workload, algorithm and contestant."""
    return rows.drop_duplicates(["workload", "algorithm", "contestant"], keep="last")


def text(rows: pd.DataFrame) -> str:
    """A table per workload and what it was measured with."""
    titles = {w.name: w.title for w in WORKLOADS}
    order = [name for name in ("W2", "W3", "W1") if name in set(rows.workload)]
    tables = "\n\n".join(
        f"{titles[name]}\n\n{markdown(rows[rows.workload == name])}" for name in order
    )
    return f"![Rounds beside fedfast's]({PICTURE})\n\n{tables}\n\n{conditions(rows)}\n"


def markdown(rows: pd.DataFrame) -> str:
    """Contestants down, algorithms across: seconds of a round and times fedfast's."""
    algorithms = [a for a in ALGORITHMS if a in set(rows.algorithm)]
    lines = [
        ["seconds per round (× fedfast's)", *(NAMES[a] for a in algorithms), "setting"],
        ["---"] * (len(algorithms) + 2),
    ]
    for name, title in TITLES.items():
        own = rows[rows.contestant == name].set_index("algorithm")
        if len(own):
            settings = own.setting.dropna()
            setting = settings.iloc[0] if len(settings) else ""
            lines.append([title, *(cell(own, a) for a in algorithms), setting])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(own: pd.DataFrame, algorithm: str) -> str:
    """One contestant's figure, or why there is none."""
    if algorithm not in own.index:
        return ""
    row = own.loc[algorithm]
    if pd.isna(row.median_s):
        note = str(row.note)
        return "" if note.startswith("no ") else note.split(":")[0]
    mark = {"equal": "", "variant": "¹", "unequal": "²"}[row.work]
    return f"{figure(row.median_s, 3)} ({figure(row.ratio_fedfast)} ×){mark}"


def figure(value: float, digits: int = 2) -> str:
    """A positive number with so many digits, and no exponent."""
    decimals = max(0, digits - 1 - math.floor(math.log10(value)))
    return f"{value:.{decimals}f}"


def conditions(rows: pd.DataFrame) -> str:
    """Machine, versions, date, command, and what the signs mean."""
    timed = rows[rows.median_s.notna()]
    skipped = {
        TITLES[name]: own.note.iloc[0]
        for name, own in rows[rows.note.str.match("skipped|failed", na=False)].groupby("contestant")
    }
    last, dates = timed.iloc[-1], sorted(set(timed.date.str[:10]))
    parts = [
        f"`python bench/bench_peers.py --write` on {last.threads} cores of an {last.cpu}, "
        f"{' and '.join(dates)}, commit {last.commit}; others had at most "
        f"{timed.elsewhere.max():.0%} of the machine. Medians of {timed.rounds.min()} to "
        f"{timed.rounds.max()} rounds; 20 % and 80 % quantiles are in the file.",
        f"Packages: {packages(timed.versions)}.",
        *(f"{name} {note}." for name, note in skipped.items()),
        "A blank is an algorithm that the peer does not have.",
    ]
    variants = "; ".join({text: None for c in CONTESTANTS for text in c.variants.values()})
    signs = {
        "variant": f"¹ As much work, other numbers: {variants}.",
        "unequal": "² Not the same work: see `deviation` in the file.",
    }
    if timed.elsewhere.max() > BUSY:
        parts.append("The machine was busy: take these figures as rough.")
    return "\n\n".join(parts + [signs[w] for w in signs if w in set(timed.work)])


def packages(versions: pd.Series) -> str:
    """Every package with its versions: "torch 1.12.1, 2.13.0"."""
    found: dict[str, set[str]] = {}
    for entry in {word for line in versions for word in line.split()}:
        name, _, version = entry.partition("==")
        found.setdefault(name, set()).add(version)
    return "; ".join(f"{name} {', '.join(sorted(found[name]))}" for name in sorted(found))


def picture(rows: pd.DataFrame, path: Path) -> None:
    """Bars of FedAvg's ratios to fedfast on a log scale, one panel per workload."""
    plain = rows[(rows.algorithm == "fedavg") & rows.ratio_fedfast.notna()]
    order = [name for name in ("W2", "W3", "W1") if name in set(plain.workload)]
    sheet = Figure(figsize=(3.2 * len(order) + 2.4, 4.6), layout="constrained")
    names = [name for name in TITLES if name in set(plain.contestant)]
    axes = sheet.subplots(1, len(order), sharey=True, squeeze=False)[0]
    for axis, workload in zip(axes, order, strict=True):
        panel(axis, plain[plain.workload == workload].set_index("contestant"), names, workload)
    sheet.supxlabel("time of a FedAvg round over fedfast's (log; left is faster)")
    sheet.savefig(path, dpi=120)


def panel(axis: Axes, own: pd.DataFrame, names: list[str], workload: str) -> None:
    """One workload."""
    own = own.reindex(names)
    colours = ["tab:orange" if name.startswith("fedfast") else "tab:blue" for name in names]
    left = 0.7 * min(1.0, own.ratio_fedfast.min())
    bars = axis.barh([TITLES[name] for name in names], own.ratio_fedfast - left, 0.7, left)
    for bar, colour in zip(bars, colours, strict=True):
        bar.set_color(colour)
    figures = zip(own.median_s, own.ratio_fedfast, strict=True)
    labels = ["" if pd.isna(ratio) else f"{figure(s)} s, {figure(ratio)} ×" for s, ratio in figures]
    axis.bar_label(bars, labels, padding=3, fontsize=8)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlim(left, 12 * max(own.ratio_fedfast.max(), 1.0))
    axis.axvline(1.0, color="grey", linewidth=0.8)
    axis.set_title(workload)
    if not axis.yaxis_inverted():  # the panels share it
        axis.invert_yaxis()
