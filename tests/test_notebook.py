"""A notebook, executed by a Jupyter kernel: the bar, HTML of the public objects, the figure."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image

import fedfast
from fedfast.history import History, Row
from fedfast.report import html

ROOT = Path(__file__).parent.parent
CELLS = [
    """
import fedfast
data = fedfast.data.load("digits")
clients = fedfast.data.dirichlet(data.train, clients=12, alpha=0.3, seed=0)
model = fedfast.models.build("mlp", input_shape=(1, 8, 8), classes=10, hidden=[8])
options = dict(test=data.test, rounds=4, batch_size=50, threads=1)
sim = fedfast.Simulation(model, clients, "fedsam", **options)
clients""",
    "history = sim.run()",
    "sim",
    "history",
    "sim.schedule",
    "history.plot()",
    "import matplotlib.pyplot\nfigure = history.plot()\nfigure",
]  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Output lists of the cells, as a notebook file holds them."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    where = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    nbformat.validate(notebook)
    return [cell.outputs for cell in notebook.cells]


class Reader(HTMLParser):
    """The words of a page, and whether each tag that was opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.tags = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.tags.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_objects_show_html(outputs):
    shown = {}
    for cell, title in ((0, "FederatedData"), (2, "Simulation"), (3, "History"), (4, "Schedule")):
        (output,) = outputs[cell]
        assert "text/plain" in output.data
        shown[title] = Reader(output.data["text/html"])
        assert shown[title].words[0] == title
        for _, attributes in shown[title].tags:
            assert not {"src", "href", "onload"} & set(attributes)
    assert "12 clients, 10 classes" in shown["FederatedData"].words
    assert "4 of 4 rounds" in shown["Simulation"].words
    assert "layer program" in shown["Simulation"].words
    assert shown["History"].words.count("4") == 1
    assert "round 0" in shown["Schedule"].words


def test_the_bar_is_one_output_that_ends_complete(outputs):
    (output,) = outputs[1]
    assert output.output_type == "display_data"
    assert "4/4" in output.data["text/plain"] and "in all" in output.data["text/plain"]
    assert "4/4" in output.data["text/html"] and "clients/s" in output.data["text/html"]


@pytest.mark.parametrize("cell", [5, 6])  # before pyplot is imported, and after
def test_a_figure_is_shown_once(outputs, cell):
    (output,) = outputs[cell]
    picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert picture.width > 500 and len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_text_is_escaped():
    row = Row(1, accuracy=0.5, loss=1.0, status='<script>alert("x")</script>')
    page = Reader(History([row])._repr_html_())
    assert not [tag for tag, _ in page.tags if tag == "script"] and row.status in page.words
    panel = Reader(html.panel("<b>", "a & b", {'"x"': "<i>"}, html.curve("<u>", [1.0, 2.0])))
    assert {"<b>", "a & b", '"x"', "<i>"} <= set(panel.words)
    assert [a["aria-label"] for t, a in panel.tags if t == "svg"] == ["<u>, 1 to 2"]


def test_a_curve_is_drawn_to_scale():
    page = Reader(html.curve("loss", [4.0, float("nan"), 2.0, 3.0, 0.0]))
    (line,) = (attributes for tag, attributes in page.tags if tag == "polyline")
    found = [tuple(map(float, pair.split(","))) for pair in line["points"].split()]
    x, y = html.WIDTH / 4, html.HEIGHT / 4
    exact = [(0, 0), (2 * x, 2 * y), (3 * x, y), (4 * x, 4 * y)]
    assert found[:4] == pytest.approx([pytest.approx(pair) for pair in exact])
    assert html.curve("none", [float("nan")]) == ""


def test_a_grid_s_cells_are_the_classes_clients_have():
    counts = np.array([[5, 0, 1], [0, 2, 0]])
    page = Reader(html.grid("g", counts))
    cells = {a["fill-opacity"]: a["d"].count("M") for tag, a in page.tags if tag == "path"}
    assert cells == {"1": 2, "0.2": 1}  # each client's largest class, and a fifth of it


def test_large_and_empty_ones():
    n = 1_000_000
    clients = fedfast.FederatedData.from_index(
        (torch.zeros(3, 1), torch.tensor([0, 1, 5])), [[i % 3] for i in range(1000)]
    )
    whole = torch.arange(n + 1)
    many = fedfast.FederatedData(
        clients.x, clients.y, torch.arange(n) % 3, whole, np.ones(n, dtype=np.int64)
    )
    shown = many._repr_html_()
    assert "1,000,000 clients, 6 classes" in Reader(shown).words and len(shown) < 20_000
    schedule = fedfast.Schedule.draw(
        many.sizes, rounds=9, participation=0.5, local_epochs=1, batch_size=None, seed=0
    )
    assert len(schedule._repr_html_()) < 5_000
    written = fedfast.Schedule.explicit([[3, 1]], [[[[0]], [[0], [1]]]])
    assert "3, 1" in Reader(written._repr_html_()).words
    assert Reader(History()._repr_html_()).words[:3] == ["History", " ", "0 rounds"]
