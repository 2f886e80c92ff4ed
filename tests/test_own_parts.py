"""A user's own parts by `package.module:Name`: in a file, as flags, in help, with mistakes."""

import csv
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import mse_loss

import fedfast
from fedfast import config, data
from fedfast.algorithms import by_name
from fedfast.cli import main
from fedfast.named_losses import loss as loss_of

MYMOD = '''
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal, Optional
import torch
from torch import nn
import fedfast
from fedfast.algorithms import SAM, SGD, Algorithm, Average, Direction, Drift, Optimizer

class Act(Enum):
    RELU = nn.ReLU
    TANH = nn.Tanh

class ViT(nn.Module):
    """A small net.

    depth  hidden layers
    """
    def __init__(self, input_shape, classes: int, depth: int = 1, width=6,
                 act: Act = Act.RELU, heads: Optional[int] = None, norm: int = None,
                 init=nn.init.ones_):
        super().__init__()
        layers = [nn.Linear(input_shape[0], width), act.value()]
        for _ in range(depth):
            layers += [nn.Linear(width, width), act.value()]
        self.net = nn.Sequential(*layers, nn.Linear(width, classes))
    def forward(self, x):
        return self.net(x)

def plain(width: int):
    return nn.Linear(3, 2)

class Boom(nn.Module):
    def __init__(self):
        super().__init__()
        {}["nothing"]

class Leaves(nn.Module):
    def __init__(self):
        print("about to leave")
        sys.exit(3)

def load(count: int = 40, seed: int = 0, mode: Literal["easy", "hard"] = "easy",
         folder: Path = Path("x"), sizes: list[int] = (1, 2), shuffle: bool = False,
         scale: float = 1.0):
    assert isinstance(folder, Path)
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    y = (x[:, 0] > 0).long()
    return (x[8:], y[8:]), (x[:8], y[:8])

def missing(path: str):
    return open(path)

def deal(samples, clients: int = 4, seed: int = 0):
    parts = torch.arange(len(samples)).chunk(clients)
    return fedfast.FederatedData.from_index(samples, list(parts))

@dataclass(frozen=True)
class Pull(Drift):
    mu: float = 0.5
    def correct(self, at, terms):
        return Direction(terms, w_ref=at.start, lam=self.mu)

@dataclass(frozen=True)
class MyAlgo(Algorithm):
    """FedSAM with a pull.

    mu   how strong the pull is
    """
    mu: float = 0.5
    rho: float = 0.1
    how: Literal["a", "b"] = "a"
    def __post_init__(self):
        self.compose(local=SAM(rho=self.rho), drift=Pull(self.mu))

@dataclass(frozen=True)
class Broken(Algorithm):
    mu: float = 0.5
    def __post_init__(self):
        raise LookupError("not today")

@dataclass(frozen=True)
class Needs(Algorithm):
    mu: float = field(kw_only=True)

@dataclass(frozen=True)
class Half(SGD):
    factor: float = 0.5
    def terms(self, at):
        return [(buffer, self.factor * c) for buffer, c in super().terms(at)]

@dataclass(frozen=True)
class Mean(Average):
    """As FedAvg."""

@dataclass(frozen=True)
class Warm:
    start: float = 0.1
    def __call__(self, t):
        return self.start / (1 + t)

def focal(outputs, targets, gamma: float = 1.0):
    p = outputs.log_softmax(1).gather(1, targets[:, None])[:, 0]
    return (-(1 - p.exp()) ** gamma * p).mean()

class Focal(nn.Module):
    """gamma: how much less samples that are right count."""
    def __init__(self, gamma: float = 1.0):
        super().__init__()
        self.gamma = gamma
    def forward(self, z, y):
        return focal(z, y, self.gamma)

class Sure:
    def __call__(self, outputs, targets):
        return outputs.softmax(1).gather(1, targets[:, None])[:, 0] > 0.6

class NeedsPath:
    def __init__(self, path): ...
    def __call__(self, outputs, targets): ...

ROUNDS = []
def note(sim, row):
    ROUNDS.append(row.round)
'''
CONFIG = """\
data: {name: "mymod:load", count: 48}
partition: {name: "mymod:deal", clients: 3}
model: {name: "mymod:ViT", depth: 2, act: TANH}
algorithm: {name: "mymod:MyAlgo", mu: 0.25}
loss: {name: "mymod:focal", gamma: 2.0}
metric: mymod:Sure
callbacks: ["mymod:note"]
lr: {name: "mymod:Warm", start: 0.2}
rounds: 2
participation: 1.0
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A user's directory with a module and a config; nothing of it stays imported."""
    (tmp_path / "mymod.py").write_text(MYMOD)
    (tmp_path / "own.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a module changed at once is read anew
    yield tmp_path
    for name in ("mymod", "broken", "vit"):
        sys.modules.pop(name, None)


def rows(folder):
    """history.csv without the clock's columns."""
    with open(Path(folder) / "history.csv", newline="") as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def simulation(mymod, **given):
    """What CONFIG means, made of the objects themselves."""
    (train, test) = mymod.load(48)
    clients = mymod.deal(data.as_samples(train), 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = mymod.ViT((3,), 2, depth=2, act=mymod.Act.TANH)
    options = dict(
        loss=mymod.Focal(2.0), metric=mymod.Sure(), lr=mymod.Warm(0.2), rounds=2, participation=1.0
    )
    algorithm = mymod.MyAlgo(mu=0.25)
    return fedfast.Simulation(model, clients, algorithm, test=test, **{**options, **given})


def test_a_file_of_own_parts_is_the_run_of_these_objects_and_can_be_repeated(mine, capsys):
    assert main(["run", "own.yaml", "--out", "run"]) == 0
    found = rows("run")
    assert [row["algorithm"] for row in found] == ["MyAlgo", "MyAlgo"]
    mymod = sys.modules["mymod"]
    assert mymod.ROUNDS == [1, 2]
    for row, ours in zip(found, simulation(mymod).run(progress=False), strict=True):
        assert (float(row["accuracy"]), float(row["loss"])) == (ours.accuracy, ours.loss)
    text = Path("run/config.yaml").read_text()
    for part in ("mymod:load", "mymod:deal", "mymod:ViT", "mymod:MyAlgo", "mymod:focal", "Warm"):
        assert part in text
    assert main(["run", "run/config.yaml", "--out", "again"]) == 0
    assert rows("again") == found
    assert config.load("run/config.yaml").algorithms == config.load("again/config.yaml").algorithms
    capsys.readouterr()


def test_flags_name_parts_and_their_options(mine):
    flags = "--model.name mymod:plain --model.width 3 --loss mymod:Focal --loss.gamma 3"
    found = config.load("own.yaml", [*flags.split(), "--algorithm.mu", "0.75", "--data.scale=2"])
    assert found.model.options() == {"width": 3}
    assert (found.loss.name, found.loss.options()) == ("mymod:Focal", {"gamma": 3.0})
    assert found.algorithms["MyAlgo"].options()["mu"] == 0.75
    assert found.data.options()["scale"] == 2 and found.data.options()["count"] == 48
    other = config.load("own.yaml", ["--algorithm", "fedsam", "--algorithm.rho", "0.3"])
    assert list(other.algorithms) == ["fedsam"]
    assert other.algorithms["fedsam"].options()["rho"] == 0.3
    another = config.load("own.yaml", ["--data.name", "digits"])  # own options are not digits'
    assert another.data.options() == {}


def test_one_of_several_algorithms_is_chosen_by_its_label(mine):
    text = CONFIG.replace("algorithm: {", "algorithms: {fedavg:, mine: {").replace(
        "0.25}", "0.25}}"
    )
    (mine / "own.yaml").write_text(text)
    assert list(config.load("own.yaml", ["--algorithm", "mine"]).algorithms) == ["mine"]
    with pytest.raises(config.ConfigError, match=r"--algorithm.mu: expected one .* 2; .*mine.mu"):
        config.load("own.yaml", ["--algorithm.mu", "1"])


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ("mymod:MyAlgo", "MyAlgo"),
        ("fedlesam-s", "fedlesam-s"),
        ('{name: "mymod:MyAlgo"}', "MyAlgo"),
    ],
)
def test_one_algorithm_needs_no_label(mine, given, label):
    text = CONFIG.replace('{name: "mymod:MyAlgo", mu: 0.25}', given)
    (mine / "own.yaml").write_text(text)
    found = config.load("own.yaml")
    assert list(found.algorithms) == [label]
    config.save(found, "again.yaml")
    assert config.load("again.yaml") == found


def test_parts_of_an_algorithm_are_ones_own(mine):
    text = CONFIG.replace(
        '{name: "mymod:MyAlgo", mu: 0.25}',
        '{name: fedavg, local: {name: "mymod:Half", factor: 0.25}, server: "mymod:Mean"}',
    )
    (mine / "own.yaml").write_text(text)
    options = config.load("own.yaml").algorithms["fedavg"].options()
    assert options["local"]["name"] == "mymod:Half" and options["local"]["factor"] == 0.25
    assert by_name("fedavg", **options).server.__class__.__name__ == "Mean"


def test_parts_that_an_algorithm_makes_itself_are_no_options(mine):
    options = config.load("own.yaml").algorithms["MyAlgo"].options()
    assert "drift" not in options and "local" not in options  # MyAlgo composes them of mu and rho
    (mine / "own.yaml").write_text(
        CONFIG.replace("mu: 0.25", 'drift: {name: "mymod:Pull"}, mu: 0.5')
    )
    assert config.load("own.yaml").algorithms["MyAlgo"].options()["drift"]["mu"] == 0.5  # the same
    with pytest.raises(
        config.ConfigError, match="MyAlgo: drift: mymod:MyAlgo makes its own of its"
    ):
        config.load("own.yaml", ["--algorithm.mu", "0.75"])


def test_help_has_their_options_texts_and_defaults(mine, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["run", "own.yaml", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in (
        "--model.depth INT hidden layers (default: 2)",
        "--model.act {RELU,TANH} (default: TANH)",
        "--model.heads INT|null (default: null)",
        "--algorithms.MyAlgo.mu FLOAT how strong the pull is (default: 0.25)",
        "--loss.name STR loss: cross_entropy or package.module:Name (default: mymod:focal)",
        "--loss.gamma FLOAT (default: 2.0)",
        "--data.mode {easy,hard} (default: easy)",
        "--data.sizes [INT ...] (default: 1 2)",
    ):
        assert part in text, part
    assert "model.init" not in text  # its default is a function: nothing that YAML could hold


ALGO = 'algorithm: {name: "mymod:MyAlgo", mu: 0.25}'
MISTAKES = [
    # what is not there
    ("mymod:ViT", "mymod:Vit", "model.name: model mymod:Vit: ", "did you mean 'ViT'? known: "),
    ("mymod:ViT", "mymd:ViT", "No module named 'mymd'", "did you mean 'mymod'?", "PYTHONPATH ("),
    ("mymod:ViT", "mymod:", "model.name: expected package.module:Name; got 'mymod:'"),
    ("mymod:ViT", "vit", "model.name: unknown name 'vit'", "or package.module:Name"),
    ("mymod:focal", "mymod:fokal", "own.yaml:5: loss.name: loss mymod:fokal: ", "'focal'"),
    ("mymod:focal", "mse", "own.yaml:5: loss.name: unknown name 'mse'; known: cross_entropy"),
    ("mymod:Warm", "mymod:Worm", "own.yaml:8: lr", "did you mean 'Warm'"),
    ("mymod:MyAlgo", "mymod:MyAlg", "own.yaml:4: algorithms.MyAlg", "did you mean 'MyAlgo'"),
    ("mymod:ViT", "broken:ViT", "the module 'broken' (ZeroDivisionError:", "broken.py:2"),
    # of another kind
    ("mymod:ViT", "mymod:Sure", "expected a function or class (input_shape, classes, **options)"),
    ("mymod:ViT", "mymod:ROUNDS", "model.name: model mymod:ROUNDS: expected a function or class"),
    ("mymod:MyAlgo", "mymod:Pull", "algorithm mymod:Pull: expected a subclass of"),
    ("mymod:Sure", "mymod:NeedsPath", "own.yaml:6: metric: expected a class that is made without"),
    # options
    ("depth: 2", "dept: 2", "own.yaml:3: model.dept: unknown field, nearest: depth"),
    ("depth: 2", "depth: 2.5", "own.yaml:3: model.depth: expected an integer"),
    ("depth: 2", "depth: '2'", "own.yaml:3: model.depth: expected an integer, found '2'"),
    ("depth: 2", "width: x", "own.yaml:3: model.width: expected an integer, found 'x'"),
    ("depth: 2", "heads: x", "own.yaml:3: model.heads: expected an integer, found 'x'"),
    ("depth: 2", "init: x", "own.yaml:3: model.init: unknown field"),
    ("act: TANH", "act: tanh", "own.yaml:3: model.act: expected 'RELU' or 'TANH', found 'tanh'"),
    ("count: 48", "mode: soft", "own.yaml:1: data.mode: expected 'easy' or 'hard', found 'soft'"),
    ("count: 48", "sizes: [1, x]", "own.yaml:1: data.sizes.1: expected an integer, found 'x'"),
    ("count: 48", "shuffle: 1", "own.yaml:1: data.shuffle: expected a boolean, found 1"),
    ("count: 48", "scale: x", "own.yaml:1: data.scale: expected a number, found 'x'"),
    ("mu: 0.25", "mu: x", "own.yaml:4: algorithms.MyAlgo.mu: expected a number, found 'x'"),
    ("mu: 0.25", "mu: true", "own.yaml:4: algorithms.MyAlgo.mu: expected a number, found True"),
    ("mu: 0.25", "how: c", "own.yaml:4: algorithms.MyAlgo.how: expected 'a' or 'b', found 'c'"),
    ("mu: 0.25", "muu: 1", "own.yaml:4: algorithms.MyAlgo: ", "'muu'; did you mean 'mu'"),
    ("mymod:MyAlgo\", mu: 0.25", 'mymod:Needs"', "algorithms.Needs.mu: needed, but not given"),
    (ALGO, 'algorithm: {name: fedavg, local: {name: "mymod:Half", factor: x}}',
     "own.yaml:4: algorithms.fedavg.local.factor: expected a number, found 'x'"),
    ("gamma: 2.0", "gamma: x", "own.yaml:5: loss.gamma: expected a number, found 'x'"),
    ("gamma: 2.0", "outputs: 2", "own.yaml:5: loss.outputs: unknown field"),
    ('ViT", depth: 2, act: TANH', 'plain"', "own.yaml:3: model.width: needed, but not given"),
    (ALGO, f"{ALGO}\nalgorithms: {{fedavg:}}", "own.yaml:4: algorithm: expected this or alg"),
    (ALGO, "algorithm: [fedavg]", "own.yaml:4: algorithm: expected a name or a mapping with one"),
    # their code fails
    ('ViT", depth: 2, act: TANH', 'Boom"', "model: KeyError: 'nothing' (mymod.py:"),
    ('ViT", depth: 2, act: TANH', 'Leaves"', "model: SystemExit: 3 (mymod.py:"),
    ("mymod:MyAlgo", "mymod:Broken", "algorithms.Broken: LookupError: not today (my"),
    ('load", count: 48', 'missing", path: nowhere', "data: [Errno 2] No such file", "(mymod.py:"),
    ('load", count: 48', 'Sure"', "data set mymod:Sure: expected fedfast.data.Data, samples"),
]  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case[1][:30])
def test_a_mistake_is_one_line_that_says_where_and_what(mine, case, capsys):
    old, new, *says = case
    (mine / "broken.py").write_text("# fails\n1 / 0\n")
    assert old in CONFIG
    (mine / "own.yaml").write_text(CONFIG.replace(old, new))
    assert main(["run", "own.yaml", "--out", "run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fedfast: ") and "Traceback" not in line
    for part in says:
        assert part in line
    assert not Path("run").exists()


def test_the_traceback_comes_on_request(mine, monkeypatch, capsys):
    (mine / "own.yaml").write_text(CONFIG.replace("depth: 2, act: TANH", "").replace("ViT", "Boom"))
    monkeypatch.setenv("FEDFAST_TRACEBACK", "1")
    assert main(["run", "own.yaml"]) == 2
    said = capsys.readouterr().err
    assert '{}["nothing"]' in said and said.splitlines()[-1].startswith("fedfast: model: KeyError")


def test_doctor_and_partition_know_them(mine, capsys):
    assert main(["doctor", "own.yaml"]) == 0
    assert "module executor, slower: the loss is a callable" in capsys.readouterr().out
    assert main(["doctor", "mymod:ViT", "--input_shape", "3", "--depth", "3", "--act", "TANH"]) == 0
    said = capsys.readouterr().out
    assert "net.8  ok" in said and "net.9" not in said and said.endswith("layer program\n")
    assert main(["doctor", "mymod:ViT", "--input_shape", "3", "--depth", "x"]) == 2
    assert "fedfast: --depth: expected an integer, found 'x'" in capsys.readouterr().err
    assert main(["doctor", "mymod:Boom", "--input_shape", "3"]) == 2
    assert "fedfast: model: KeyError: 'nothing' (mymod.py:" in capsys.readouterr().err
    assert main(["partition", "own.yaml", "--partition.clients", "5", "--out", "deal.png"]) == 0
    assert "5 clients, 40 samples" in capsys.readouterr().out


def test_a_shell_finds_the_module_in_its_directory(mine):
    command = [sys.executable, "-m", "fedfast", "run", "own.yaml", "--out", "found"]
    env = {**os.environ, "PYTHONPATH": str(Path(fedfast.__file__).parents[1])}
    found = subprocess.run(command, cwd=mine, env=env, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert main(["run", "own.yaml", "--out", "here"]) == 0
    assert rows("found") == rows("here")


def test_from_another_directory_it_says_where_it_looked(
    mine, tmp_path_factory, monkeypatch, capsys
):
    other = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(mine)])
    monkeypatch.chdir(other)
    monkeypatch.setenv("PYTHONPATH", "/some/where")
    assert main(["run", str(mine / "own.yaml")]) == 2
    (first, *_) = capsys.readouterr().err.splitlines()
    assert "No module named 'mymod'" in first and f"current directory ({other})" in first
    assert "in PYTHONPATH (/some/where) or installed" in first


CHANGES = {
    "algorithm": ("w_ref=at.start, lam=self.mu)", "w_ref=at.start, lam=2 * self.mu)"),
    "model": ("return self.net(x)", "return self.net(2 * x)"),
    "loss": ("return focal(z, y, self.gamma)", "return 2 * focal(z, y, self.gamma)"),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_saved_state_refuses_changed_code(mine, changed):
    mymod = importlib.import_module("mymod")
    sim = simulation(mymod)
    next(iter(sim))
    sim.save("state.pt")
    same = simulation(importlib.reload(mymod))
    same.load("state.pt")
    assert same.history.last().round == 1
    old, new = CHANGES[changed]
    assert MYMOD.count(old) == 1
    (mine / "mymod.py").write_text(MYMOD.replace(old, new) + "\n# another size\n")
    importlib.invalidate_caches()
    with pytest.raises(ValueError, match=f"the code of {changed}.* as it is, found one that has"):
        simulation(importlib.reload(mymod)).load("state.pt")


@pytest.fixture(scope="module")
def samples():
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(9) % 3


FORMS = {
    "(x, y)": (lambda x, y: (x, y), None),
    "arrays": (lambda x, y: (x.numpy(), y.numpy()), None),
    "Samples": (lambda x, y: data.Samples(x, y), None),
    "Dataset": (lambda x, y: torch.utils.data.TensorDataset(x, y), None),
    "(train, test)": (lambda x, y: ((x, y), (x[:4], y[:4])), 4),
    "(Dataset, None)": (lambda x, y: (torch.utils.data.TensorDataset(x, y), None), None),
    "mapping": (lambda x, y: {"train": (x, y), "test": data.Samples(x[:5], y[:5])}, 5),
    "Data": (lambda x, y: data.Data(data.Samples(x, y), None, "own", 3), None),
}


@pytest.fixture
def reader(monkeypatch):
    """A reader that returns what it is told to, found by a name of its own."""
    returned = []
    monkeypatch.setitem(data.READERS._things, "told", lambda: returned[-1])
    return returned.append


@pytest.mark.parametrize("form", FORMS)
def test_a_reader_may_return_any_form_of_samples(form, samples, reader):
    make, tests = FORMS[form]
    reader(make(*samples))
    found = data.load("told")
    assert torch.equal(found.train.x, samples[0]) and torch.equal(found.train.y, samples[1])
    assert found.classes == 3
    assert (found.test is None) if tests is None else len(found.test) == tests


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (3, "data set told: expected fedfast.data.Data, samples .*; got 3"),
        ({"tests": 1}, "data set told: key: unknown name 'tests'; did you mean 'test'"),
        ({"test": None}, "data set told: .*; got a mapping without train"),
        ((torch.zeros(3), torch.zeros(3)), "data set told: train.x: expected shape"),
        (((torch.zeros(3, 2), torch.zeros(3).long()), 5), "data set told: test: expected Samples"),
        ({"train": (torch.zeros(3, 2), torch.arange(3)), "classes": 2}, "at least 3"),
        ({"train": (torch.zeros(3, 2), torch.arange(3)), "classes": True}, "expected an integer"),
    ],
)
def test_what_a_reader_returns_is_checked(returned, says, reader):
    reader(returned)
    with pytest.raises((ValueError, TypeError), match=says):
        data.load("told")


def test_targets_that_are_no_labels_count_their_width(reader, samples):
    reader((samples[0], torch.zeros(9, 2)))
    assert data.load("told").classes == 2


def test_torchs_losses_are_found_by_name_too():
    z, y = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    assert loss_of("torch.nn:MSELoss")(z, y) == mse_loss(z, y) == 2.5
    smooth = loss_of("torch.nn:CrossEntropyLoss", label_smoothing=0.2)
    label = torch.tensor([1])
    expected = -(0.9 * z.log_softmax(1)[0, 1] + 0.1 * z.log_softmax(1)[0, 0])
    assert float(smooth(z, label)) == pytest.approx(float(expected))
    with pytest.raises(ValueError, match="option: unknown name 'reductoin'; did you mean"):
        loss_of("torch.nn:MSELoss", reductoin="mean")


def test_in_python_a_loss_has_a_name_too(mine):
    mymod = importlib.import_module("mymod")
    by = {name: simulation(mymod, loss=name) for name in ("mymod:focal", "mymod:Focal")}
    by["object"] = simulation(mymod, loss=mymod.Focal())
    assert len({sim.run(progress=False).last().loss for sim in by.values()}) == 1
