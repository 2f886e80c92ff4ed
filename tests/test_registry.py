"""Names, and a user's own `package.module:Name`, in Python, in a config and on the command line."""

from __future__ import annotations

import sys

import pytest
import torch
from federation import arrays, federation, mlp

import fedfast
from fedfast import algorithms, config, data, models
from fedfast.algorithms import Algorithm, FedAvg
from fedfast.callbacks import CALLBACKS
from fedfast.cli import main
from fedfast.metrics import METRICS
from fedfast.registry import Registry

OURS = '''
from dataclasses import dataclass
from typing import Annotated
import torch
from torch import nn
import fedfast
from fedfast.algorithms import SAM, Algorithm, Direction, Drift
from fedfast.data import Data, FederatedData, Samples

@dataclass(frozen=True)
class Pull(Drift):
    mu: float = 0.5
    def correct(self, at, terms):
        return Direction(terms, w_ref=at.start, lam=self.mu)

@dataclass(frozen=True)
class Mine(Algorithm):
    """FedAvg with a pull.

    mu   how strong the pull is
    """
    mu: float = 0.5
    def __post_init__(self):
        self.compose(drift=Pull(self.mu))

class Net(nn.Module):
    """A linear model.

    width   outputs that are ignored
    """
    def __init__(self, input_shape, classes: int, width: int = 0):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], classes))
    def forward(self, x):
        return self.net(x)

def halves(samples, clients: Annotated[int, "how many"] = 2, seed: int = 0):
    n = len(samples)
    return FederatedData.from_index(samples, list(torch.arange(n).chunk(clients)))

def read(name, root, count: int = 40):
    y = torch.arange(count) % 3
    noise = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    x = noise + y[:, None, None, None]
    return Data(Samples(x, y), Samples(x, y), "ours", 3)

def certain(outputs, targets):
    return (outputs.softmax(1).gather(1, targets[:, None])[:, 0] > 0.4)

SEEN = []
class Logger:
    def __call__(self, sim, row):
        SEEN.append(row.round)
'''
CONFIG = """\
data: {name: "ours:read", count: 30}
partition: {name: "ours:halves", clients: 3}
model: {name: "ours:Net", width: 3}
algorithms: {mine: {name: "ours:Mine", mu: 0.25}, swap: {name: fedavg, drift: {name: "ours:Pull"}}}
metric: ours:certain
callbacks: ["ours:Logger"]
rounds: 2
participation: 1.0
"""


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """A user's folder, in which the command line is called; no module of it is left imported."""
    (tmp_path / "ours.py").write_text(OURS)
    (tmp_path / "own.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("ours", None)


def test_a_users_own_in_python(ours):
    found = data.load("ours:read", count=24)
    clients = data.partition("ours:halves", found.train, clients=4)
    model = models.build("ours:Net", input_shape=(1, 4, 4), classes=3)
    sim = fedfast.Simulation(
        model, clients, "ours:Mine", test=found.test, rounds=1, participation=1.0,
        metric="ours:certain", callbacks=["ours:Logger"],
    )  # fmt: skip
    sim.run(progress=False)
    assert type(sim.algorithm).__name__ == "Mine" and sim.algorithm.drift.mu == 0.5
    assert clients.num_clients == 4 and sys.modules["ours"].SEEN == [1]
    with torch.no_grad():
        right = sys.modules["ours"].certain(sim.model()(found.test.x), found.test.y)
    assert sim.history.last().accuracy == right.double().mean().item()


def test_a_users_own_in_a_config_and_read_back(ours):
    found = config.load("own.yaml", ["--algorithms.mine.mu", "0.75", "--partition.clients=5"])
    assert found.partition_options() == {"clients": 5, "seed": 0}
    assert found.model.options() == {"width": 3} and found.data.options() == {"count": 30}
    assert found.algorithms["mine"].options()["mu"] == 0.75
    assert found.algorithms["swap"].options()["drift"] == {"name": "ours:Pull", "mu": 0.5}
    config.save(found, "again.yaml")
    assert config.load("again.yaml") == found


def test_a_users_own_on_the_command_line(ours, capsys):
    assert main(["run", "own.yaml", "--out", "run"]) == 0
    assert len((ours / "run" / "history.csv").read_text().splitlines()) == 5
    assert sys.modules["ours"].SEEN == [1, 2, 1, 2]
    assert main(["doctor", "own.yaml"]) == 0
    assert "layer program, K = 3 clients at once" in capsys.readouterr().out
    assert main(["doctor", "ours:Net", "--input_shape", "1", "4", "4"]) == 0
    said = capsys.readouterr().out
    assert "net.1  ok" in said and said.endswith("layer program\n")
    assert main(["doctor", "ours:Net"]) == 2
    assert "--input_shape" in capsys.readouterr().err


def test_help_has_the_users_own_parameters(ours, capsys):
    with pytest.raises(SystemExit):
        config.load("own.yaml", ["--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in (
        "--algorithms.mine.mu FLOAT how strong the pull is (default: 0.25)",
        "--partition.clients INT how many (default: 3)",
        "--model.width INT outputs that are ignored (default: 3)",
        "--data.count INT (default: 30)",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("ours:Net", "ours:Nett", "own.yaml:3: model.name: model ours:Nett: "),
        ("ours:Net", "ours:Nett", "ours.py: unknown name 'Nett'; did you mean 'Net'?"),
        ("ours:Net", "none:Net", "cannot import the module 'none' (ModuleNotFoundError: No module"),
        ("ours:Net", "a b:Net", "model.name: expected package.module:Name; got 'a b:Net'"),
        ("width: 3", "width: x", "own.yaml:3: model.width: expected an integer, found 'x'"),
        ("width: 3", "widht: 3", "own.yaml:3: model.widht: unknown field, nearest: width"),
        ("count: 30", "cuont: 30", "own.yaml:1: data.cuont: unknown field, nearest: count"),
        ("ours:Mine", "ours:Net", "algorithm ours:Net: expected a subclass of "),
        (
            'mine: {name: "ours:Mine",',
            '"ours:Mine": {',
            "algorithms.ours:Mine: expected a label of",
        ),
        ('mine: {name: "ours:Mine",', '"ours:Mine": {', '; write mine: {name: "ours:Mine"}'),
        ("ours:certain", "ours:certan", "own.yaml:5: metric: metric ours:certan: "),
        ("ours:certain", "certain", "own.yaml:5: metric: unknown name 'certain'; known: auto, "),
        ("ours:Logger", "loger", "own.yaml:6: callbacks: unknown name 'loger'; "),
        ("ours:Logger", "ours:Loger", "own.yaml:6: callbacks: callback ours:Loger: "),
        (
            "ours:Logger",
            "ours:Net",
            "own.yaml:6: callbacks: expected classes that are made without",
        ),
        (
            "ours:Logger",
            "shutil:get_archive_formats",
            "own.yaml:6: callbacks: expected callables f(sim, row); got ",
        ),
        ("mu: 0.25", "muu: 1", "algorithm ours:Mine, parameter: unknown name 'muu'; did you mean"),
    ],
)
def test_a_mistake_names_the_key_the_module_and_what_was_expected(ours, old, new, says):
    (ours / "own.yaml").write_text(CONFIG.replace(old, new))
    with pytest.raises(config.ConfigError) as caught:
        config.load("own.yaml")
    assert says in str(caught.value)


def test_a_module_or_function_that_exits_is_named(ours, capsys):
    (ours / "exits.py").write_text("import sys\nsys.exit(0)\n")
    (ours / "ours.py").write_text(OURS + "\ndef leave(*a, **k): raise SystemExit(0)\n")
    with pytest.raises(ValueError, match="model exits:x: cannot import .*'exits' .SystemExit: 0"):
        models.build("exits:x", input_shape=(4,), classes=2)
    for old, new, says in (
        ("ours:Net", "exits:x", "cannot import the module 'exits' (SystemExit: 0, exits.py:2)"),
        ('name: "ours:Net", width: 3', 'name: "ours:leave"', "model: SystemExit: 0"),
    ):
        (ours / "own.yaml").write_text(CONFIG.replace(old, new))
        assert main(["run", "own.yaml"]) == 2
        assert says in capsys.readouterr().err


def test_a_callback_that_exits_keeps_the_rounds_before_it(ours, capsys):
    text = OURS.replace("SEEN.append(row.round)", "if row.round == 2: raise SystemExit(0)")
    (ours / "ours.py").write_text(text)
    assert main(["run", "own.yaml", "--out", "run", "--rounds", "3"]) == 1
    assert "failed in mine after round 2 of 3" in capsys.readouterr().err
    assert {"summary.md", "error.txt", "checkpoint"} <= {p.name for p in (ours / "run").iterdir()}
    # Callbacks follow the round: the one in which it exits is done.
    assert len((ours / "run" / "history.csv").read_text().splitlines()) == 3


def test_what_a_users_function_returns_is_checked(ours):
    (ours / "ours.py").write_text("def f(*a, **k): return 3\n")
    with pytest.raises(TypeError, match="model ours:f: expected an nn.Module; got 3"):
        models.build("ours:f", input_shape=(4,), classes=2)
    with pytest.raises(TypeError, match="partition ours:f: expected FederatedData; got 3"):
        data.partition("ours:f", None)
    with pytest.raises(TypeError, match="data set ours:f: expected fedfast.data.Data, .*; got 3"):
        data.load("ours:f")


def test_decorators_of_every_registry():
    everything = (algorithms.ALGORITHMS, algorithms.OPTIMIZERS, algorithms.DRIFTS,
                  algorithms.SERVER_RULES, models.MODELS, data.PARTITIONS, data.READERS,
                  METRICS, CALLBACKS)  # fmt: skip
    for registry in everything:
        assert isinstance(registry, Registry) and list(registry) == sorted(registry)
        for name in registry:
            assert registry.find(name) is registry[name]
            assert registry.name_of(registry[name]) in registry


def test_registered_by_decorator_it_is_found_by_name():
    colours = Registry[object]("colour", "a class", lambda thing: isinstance(thing, type))

    @colours.register("red", "rouge")
    class Red:
        name = ""

    assert colours.find("red") is colours.find("rouge") is Red and colours.name_of(Red) == "red"
    with pytest.raises(ValueError, match="colour 'red': the name is taken by .*Red"):
        colours.register("red")(int)
    with pytest.raises(ValueError, match="colour: unknown name 'rad'; did you mean 'red'"):
        colours.find("rad")
    with pytest.raises(TypeError, match="colour three: expected a class; got 3"):
        colours.register("three")(3)
    with pytest.raises(ValueError, match="taken"):
        colours.register("blue", "red")(int)
    assert list(colours) == ["red", "rouge"]


@pytest.mark.parametrize(
    ("names", "error", "got"),
    [
        ((test_decorators_of_every_registry,), TypeError, "<function test_decorators_of"),
        ((), TypeError, "none"),
        ((3,), TypeError, "3"),
        (("",), ValueError, "''"),
        (("a:b",), ValueError, "'a:b'"),
        ((" a",), ValueError, "' a'"),
    ],
)
def test_what_is_no_name_is_refused_when_it_is_registered(names, error, got):
    form = r'colour: expected names, as in @register\("name"\)(, without a colon)?; got '
    with pytest.raises(error, match=form + got):
        Registry[object]("colour", "a class", callable).register(*names)


def test_functions_of_one_place_do_not_replace_each_other():
    colours = Registry[object]("colour", "a function", callable)

    def closure(shade):
        return lambda: shade

    first = closure(1)
    assert colours.register("red")(colours.register("red")(first)) is first
    with pytest.raises(ValueError, match="colour 'red': the name is taken by .*lambda"):
        colours.register("red")(closure(2))
    namespace = {"__name__": "notebook", "register": colours.register}
    for _ in range(2):  # a notebook's cell that is run again
        exec("@register('cell')\ndef cell(): pass", namespace)
    assert colours.find("cell") is namespace["cell"]


def test_a_registry_without_names_and_a_class_of_another_kind_are_clear():
    with pytest.raises(ValueError, match="^colour: unknown name 'red'; expected package.module:Na"):
        Registry[object]("colour", "a function", callable).find("red")
    with pytest.raises(TypeError, match="algorithm x: expected a subclass of fedfast.algorithms.A"):
        algorithms.ALGORITHMS.register("x")(int)


def test_a_registered_algorithm_has_its_name():
    @algorithms.ALGORITHMS.register("of-the-test")
    class OfTheTest(FedAvg):
        pass

    try:
        sim = fedfast.Simulation(mlp(), federation([5, 6]), "of-the-test", rounds=1)
        assert sim.algorithm.name == "of-the-test" and FedAvg().name == "fedavg"
        assert Algorithm().name == ""
    finally:
        del algorithms.ALGORITHMS._things["of-the-test"]


def test_callbacks_and_metrics_of_other_kinds_are_refused():
    make = lambda **given: fedfast.Simulation(mlp(), federation([5]), **given)  # noqa: E731
    with pytest.raises(TypeError, match="callbacks: expected a sequence of callables"):
        make(callbacks="print")
    with pytest.raises(ValueError, match="callback: unknown name 'prnt'"):
        make(callbacks=["prnt"])
    with pytest.raises(ValueError, match="metric: unknown name 'multiclas'; did you mean"):
        make(metric="multiclas")
    with pytest.raises(TypeError, match="metric: expected a name or a callable .*; got 3"):
        make(metric=3)


def three(sim, row, more): ...


class Named:
    def __init__(self, path): ...
    def __call__(self, sim, row): ...


@pytest.mark.parametrize(
    ("callback", "says"),
    [
        (three, "expected callables f.sim, row.; got <function three .* argument: 'more'"),
        (lambda sim: None, "expected callables f.sim, row.; got .*too many positional"),
        (Named, "expected callables f.sim, row.; got <class .*Named'> .too many positional"),
        (f"{__name__}:three", "expected callables f.sim, row.; got <function three"),
        (f"{__name__}:Named", "classes that are made without arguments; got .*Named'> .*'path'"),
    ],
)
def test_a_callback_that_cannot_be_called_is_refused_before_round_1(callback, says):
    with pytest.raises(TypeError, match=f"^callbacks: expected .*{says.removeprefix('expected ')}"):
        fedfast.Simulation(mlp(), federation([5]), callbacks=[callback])
    fedfast.Simulation(mlp(), federation([5]), callbacks=[Named("x"), print])


def test_arguments_of_a_model_are_given_by_name(ours):
    (ours / "ours.py").write_text(
        "from torch import nn\nclass Plain(nn.Linear):\n"
        "    def __init__(self, classes=4): super().__init__(8, classes)\n"
    )
    model = models.build("ours:Plain", input_shape=(8,), classes=5)
    assert model(arrays([3])[0][0]).shape == (3, 5)
