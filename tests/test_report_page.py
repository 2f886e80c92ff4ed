"""`fedfast report`: the page asks for nothing, hides nothing, and its numbers are the runs'."""

import base64
import re
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_cli import TINY

from fedfast.cli import main
from fedfast.history import read_runs
from fedfast.report.client_scores import last_scores

REFERENCES = ("src", "href", "srcset", "action", "data", "poster", "background", "cite", "style")


class Page(HTMLParser):
    """Tags, what they refer to, and the text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.references, self.ids, self.text = [], [], [], ""
        self.policy = ""
        self.rows = []
        self.source = Path(path).read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in REFERENCES]
        self.references += [value for name, value in attrs if name.startswith("on")]
        self.ids += [given["id"]] if "id" in given else []
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        self.text += data
        if self.tags[-1:] in (["td"], ["th"]) and data.strip():
            self.rows[-1].append(data)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of two algorithms; seed 0 has kept its clients' accuracies."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(TINY)
    for seed in ("0", "1"):
        flags = ["--seed", seed, "--out", str(folder / f"seed-{seed}")]
        assert main(["run", str(folder / "tiny.yaml"), *flags]) == 0
    lines = ["algorithm,round,client,samples,accuracy,loss", "fedavg,1,0,5,0.0,9"]
    lines += [f"fedavg,3,{i},5,{a},1" for i, a in enumerate((0.25, 0.5, 1.0))]
    (folder / "seed-0" / "clients.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def page(runs):
    folders = [str(runs / "seed-0"), str(runs / "seed-1")]
    title = 'A & B: <script src="//evil"></script>'
    flags = ["--out", str(runs / "out"), "--target", "20%", "--title", title]
    assert main(["report", *folders, *flags]) == 0
    return Page(runs / "out" / "report.html")


def test_nothing_is_asked_for(page):
    assert page.policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not {"script", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    inside = [r for r in page.references if r.startswith("#")]
    assert set(page.references) - set(inside) == {
        r for r in page.references if r.startswith("data:image/png;base64,") or r == "data:,"
    }
    assert {r[1:] for r in inside} <= set(page.ids)
    style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL).group(1)
    assert "url(" not in style and "@import" not in style and "//" not in style


def test_what_users_wrote_is_text(page):
    assert '<script src="//evil"></script>' in page.text
    assert "<script" not in page.source


def test_the_figures_in_the_page_are_those_in_the_files(page, runs):
    shown = [r.partition(",")[2] for r in page.references if r.startswith("data:image")]
    names = ["accuracy", "loss", "train-loss", "bytes", "clients", "partition", "time"]
    assert [base64.b64decode(text) for text in shown] == [
        (runs / "out" / f"{name}.png").read_bytes() for name in names
    ]
    assert {path.name for path in (runs / "out").iterdir()} == {
        "report.html", *(f"{name}.{kind}" for name in names for kind in ("png", "pdf")),
    }  # fmt: skip


def test_figures_stand_side_by_side(page):
    # A section of one figure leaves the place beside it to the next; of several, it has the row.
    assert re.findall('<section class="(.*?)">\\n<h2 id="(.*?)">', page.source) == [
        ("several", "curves"), ("one", "bytes"), ("one", "clients"), ("one", "partition"),
        ("one", "time"),
    ]  # fmt: skip
    assert "repeat(auto-fill, minmax(min(26rem, 100%), 1fr))" in page.source


def test_what_all_groups_have_in_common_is_in_the_caption(page):
    heads = next(row for row in page.rows if row[:1] == ["group"])
    assert heads[1:3] == ["final", "best"] and "2 seeds, 3 rounds." in page.text


def test_long_words_do_not_widen_the_page(page):
    style = re.search(r"\nbody {(.*?)}", page.source).group(1)
    assert "overflow-wrap: anywhere" in style


def test_numbers_are_means_over_the_seeds(page, runs):
    for label in ("fedavg", "sharp"):
        last = [
            100 * read_runs(runs / f"seed-{s}" / "history.csv")[label].last().accuracy
            for s in (0, 1)
        ]
        row = next(row for row in page.rows if row[0] == label and "±" in row[1])
        assert f"{statistics.mean(last):.2f} ± {statistics.stdev(last):.2f}" in row


def test_environment_and_options_are_told(page):
    cells = {row[0]: row[1] for row in page.rows if len(row) == 2}
    assert cells["threads"] == "1" and cells["seeds"] == "0, 1"
    command = "fedfast run {0}/tiny.yaml --seed 0 --out {0}/seed-0"
    folder = re.search(r"fedfast run (\S+)/tiny.yaml", cells["command"]).group(1)
    assert cells["command"].splitlines()[0] == command.format(folder)
    heads = next(row for row in page.rows if row[:2] == ["group", "name"])
    plain, sharp = (
        dict(zip(heads, next(row for row in page.rows if row[:2] == pair), strict=True))
        for pair in (["fedavg", "fedavg"], ["sharp", "fedsam"])
    )
    assert (plain["rho"], sharp["rho"]) == ("–", "0.05") and sharp["seeds"] == "0, 1"
    assert len(heads) == len(set(heads)) and "rounds" not in heads
    assert "batch_size: 50" in page.text  # the config


def test_the_last_tested_round_of_the_clients_counts(runs):
    assert last_scores(runs / "seed-0", "fedavg")["accuracy"].tolist() == [0.25, 0.5, 1.0]
    assert last_scores(runs / "seed-1", "fedavg") == {} == last_scores(runs / "seed-0", "sharp")


def test_damaged_files_of_clients_are_named(tmp_path):
    (tmp_path / "clients.csv").write_text("algorithm,client\na,1\n")
    with pytest.raises(ValueError, match="clients.csv: expected columns algorithm, round"):
        last_scores(tmp_path, "a")


def test_one_run_is_reported_in_its_folder_and_without_its_partition_too(runs, tmp_path, capsys):
    shutil.copytree(runs / "seed-1", tmp_path / "one")
    path = tmp_path / "one" / "config.yaml"
    path.write_text(re.sub("partition: .*", "partition: {name: natural}", path.read_text()))
    assert main(["report", str(tmp_path / "one"), "--format", "png"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/one/report/report.html\n  accuracy.png")
    text = Page(tmp_path / "one" / "report" / "report.html").text
    assert "not drawn: partition: samples.owner: expected" in text
    assert main(["report", str(tmp_path / "one"), "--format", "png"]) == 0  # again, over the first


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fromat", "png"], "flag: unknown name '--fromat'; did you mean '--format'?"),
        (["--target"], "argument --target: expected one argument"),
        (["--out", "page.html"], "--out: expected a folder, which gets report.html"),
        (["--format", "pgn"], "format: unknown name 'pgn'; did you mean 'png'?"),
        (["--target", "much"], "target: expected"),
        (["--out", "file"], "out: expected a folder, found a file: file"),
        (["--out", "file/below"], "out: expected a folder, found a file: file"),
    ],
)
def test_mistakes_are_told_in_a_line(runs, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main(["report", str(runs / "seed-1"), *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fedfast: ") and message in said and said.count("\n") == 1


def test_a_folder_without_runs_is_named(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert f"fedfast: {tmp_path}: expected a folder of runs" in capsys.readouterr().err
    assert main(["report", "--help"]) == 0 and main(["report"]) == 2
