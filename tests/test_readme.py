"""What README promises, held to what exists: names, numbers, commands, limits.

Elsewhere: its Python (`tests/test_examples.py`), its links and files (`tests/test_documents.py`),
runs that continue bit for bit (`tests/test_checkpoint_resume.py`), results that depend neither on
chunks nor on threads (`tests/test_simulation.py`, `tests/test_random.py`).
"""

import ast
import re
from pathlib import Path

import pytest
import torch
from federation import federation, mlp
from torch import nn

import fedfast
from fedfast import algorithms, cli, config, data, models
from fedfast.config.schema import RunConfig
from fedfast.history import FIELDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

# What README calls them -> their names.
ALGORITHMS = {
    "FedSGD": ["fedsgd"],
    "FedAvg": ["fedavg"],
    "FedAvgM": ["fedavgm"],
    "FedAdagrad/Adam/Yogi": ["fedadagrad", "fedadam", "fedyogi"],
    "FedProx": ["fedprox"],
    "FedCM": ["fedcm"],
    "SCAFFOLD": ["scaffold"],
    "FedDyn": ["feddyn"],
    "FedSAM": ["fedsam"],
    "FedASAM": ["fedasam"],
    "MoFedSAM": ["mofedsam"],
    "FedSAGM": ["fedsagm"],
    "FedSpeed": ["fedspeed"],
    "FedGAMMA": ["fedgamma"],
    "FedSMOO": ["fedsmoo"],
    "FedLESAM (-S, -D)": ["fedlesam", "fedlesam-s", "fedlesam-d"],
    "FedGloSS (and Naive)": ["fedgloss", "naive-fedgloss"],
    "FedFSA": ["fedfsa"],
    "FedNSAM": ["fednsam", "fednsam-single"],
    "FedWMSAM": ["fedwmsam"],
    "FedGH": ["fedgh"],
    "FedALA": ["fedala"],
    "FedAvg-FT": ["fedavg-ft"],
    "FedCR": ["fedcr"],
    "FedSOL": ["fedsol"],
    "centralized": ["centralized"],
}
MODELS = {
    "multinomial logistic regression": ["mclr"],
    "MLP": ["mlp"],
    "the McMahan CNN": ["cnn"],
    "the LeNet-like CNN": ["lenet"],
    "ResNet-18 (GroupNorm or BatchNorm)": ["resnet18", "resnet18-gn"],
    "MobileNetV2": ["mobilenetv2"],
    "LEAF's character LSTM": ["lstm"],
}
DATA = {
    "`arrays`": ["arrays"],
    "scikit-learn's digits": ["digits"],
    "MNIST": ["mnist"],
    "Fashion-MNIST": ["fashion-mnist"],
    "EMNIST": [f"emnist-{kind}" for kind in
               ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")],
    "QMNIST": ["qmnist"],
    "CIFAR-10/100": ["cifar-10", "cifar-100"],
    "Tiny-ImageNet": ["tiny-imagenet"],
    "Shakespeare": ["shakespeare"],
    "FEMNIST": ["femnist"],
    "image folders": ["folder"],
}  # fmt: skip
PARTITIONS = {
    "Dirichlet by class": ["dirichlet"],
    "Dirichlet with equal amounts (Acar, Hsu)": ["dirichlet-equal", "hsu"],
    "IID": ["iid"],
    "shards": ["shards"],
    "pathological": ["pathological"],
    "natural clients": ["natural"],
}
UNLISTED = {"stochastic"}  # FedCR's own encoder
TRAINING = {
    "learning-rate decay or schedule": "lr_decay",
    "weight decay": "weight_decay",
    "clipping": "clip_norm",
    "drop_last": "drop_last",
    "a memory budget": "memory",
    "callable losses": "loss",
    "metrics by task": "metric",
    "divergence caught in its round": "on_divergence",
}


def row(title):
    """A row of the table of what exists."""
    (found,) = re.findall(rf"^\| {title} \| (.*) \|$", README, re.MULTILINE)
    return found


@pytest.mark.parametrize(
    ("title", "phrases", "registry"),
    [
        ("algorithms", ALGORITHMS, algorithms.ALGORITHMS),
        ("models", MODELS, models.MODELS),
        ("data", DATA, data.READERS),
        ("partitions", PARTITIONS, data.PARTITIONS),
    ],
)
def test_every_name_that_is_listed_exists_and_vice_versa(title, phrases, registry):
    listed = re.sub(r"\[[^\]]*\]\([^)]*\)", "", row(title))
    for phrase in phrases:
        assert re.search(rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", listed), phrase
    ours = {name for name in registry if registry[name].__module__.split(".")[0] == "fedfast"}
    assert {name for names in phrases.values() for name in names} | UNLISTED == ours | UNLISTED


def test_algorithms_that_are_listed_have_a_phrase_each():
    listed = row("algorithms").partition(": [")[0]
    assert re.split(r", (?![^(]*\))", listed) == list(ALGORITHMS)


def test_training_is_by_options_that_exist():
    for phrase, option in TRAINING.items():
        assert phrase in row("training").replace("`", ""), phrase
        assert option in RunConfig.model_fields
    assert "personal models" in row("training") and "keep_models" in str(
        algorithms.FedAvg.__dataclass_fields__
    )
    assert "bytes sent per round" in row("training") and "bytes_up" in FIELDS


def test_the_commands_are_those_of_the_table():
    table = re.findall(r"^\| `fedfast (\w+)", README, re.MULTILINE)
    assert sorted(table) == sorted(cli.COMMANDS)


def test_commands_are_shown_with_flags_that_exist(monkeypatch):
    monkeypatch.chdir(ROOT)
    shown = re.findall(r"fedfast run (quickstart)((?: --[\w.]+ [\w.]+)*)", README)
    assert len(shown) >= 2 and any(flags for _, flags in shown)
    for path, flags in shown:
        config.load(path, flags.split())
    found = config.load("quickstart")
    assert set(found.algorithms) == {"fedavg", "fedsam"} and found.data.name == "digits"
    assert found.partition.clients == int(re.findall(r"(\d+) clients, real digit", README)[0])


def test_a_run_leaves_what_the_table_says(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    path = str(ROOT / "examples" / "quickstart.yaml")
    assert cli.main(["run", path, "--rounds", "1", "--out", "run"]) == 0
    said = {path.name for path in Path("run").iterdir()}
    assert {"config.yaml", "history.csv", "summary.md", "curves.png"} <= said
    assert len(Path("run/history.csv").read_text().splitlines()) == 1 + 2
    capsys.readouterr()


def test_five_commands_lead_from_an_empty_folder_to_table_and_figures(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"in five commands.*?```sh\n(.*?)```", README, re.DOTALL)
    commands = [line.split()[1:] for line in block.splitlines()]
    assert len(commands) == 5
    quick = {"sweep": ["--rounds", "2", "--jobs", "1"], "report": ["--format", "pdf"]}
    for words in commands:
        assert cli.main([*words, *quick.get(words[0], [])]) == 0, words
    runs = [path.parent for path in Path("runs/quickstart-sweep").rglob("history.csv")]
    assert len(runs) == 2 * 3 * 2  # algorithms, seeds, alphas
    tex, markdown = Path("table.tex").read_text(), Path("table.md").read_text()
    for text in (tex, markdown):
        assert all(
            text.count(f"{name} alpha={a}") for name in ("fedavg", "fedsam") for a in (0.1, 0.5)
        )
    figures = {path.name for path in Path("figures").iterdir()}
    assert {"accuracy.pdf", "bytes.pdf", "report.html"} <= figures


def test_versions_extras_and_targets_of_make():
    (python,) = re.findall(r"Python ≥ ([\d.]+)", README)
    assert f'requires-python = ">={python}"' in PYPROJECT
    for extra in re.findall(r'\.\[(\w+)\]"', README):
        assert re.search(rf"^{extra} = \[", PYPROJECT, re.MULTILINE), extra
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for variable in re.findall(r"`?\b(TORCH\w*)[=`]", README):
        assert re.search(rf"^{variable} \?=", makefile, re.MULTILINE), variable
    assert "Apache-2.0" in README and 'license = "Apache-2.0"' in PYPROJECT


def test_the_speed_up_is_that_of_the_benchmarks():
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    section = text.split("## One round of FedAvg")[1].split("\n## ")[0]
    ratios = [
        float(n) for n in re.findall(r"^\| W\d\w? \|.*?\| ([\d.]+) \|", section, re.MULTILINE)
    ]
    (low, high) = re.findall(r"FedAvg is ([\d.]+) to ([\d.]+) times as fast", README)[0]
    assert len(ratios) == 7
    assert abs(float(low) - min(ratios)) <= 0.051 and abs(float(high) - max(ratios)) <= 0.5


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = x.flatten(1)
        return self.head(x + self.inner(x).relu())


KNOWN = {
    "Linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 4)),
    "Dropout": lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 4)),
    "LayerNorm": lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 4)),
    "Batch": lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 4)),
    "residual additions": Residual,
}
SLOWER = {
    "attention": dict(model=lambda: Attention()),
    "a callable loss": dict(loss=nn.functional.cross_entropy),
    "hooks": dict(model=lambda: hooked()),
}


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 4)

    def forward(self, x):
        x = x.flatten(1)[:, None]
        return self.head(self.net(x, x, x, need_weights=False)[0][:, 0])


def hooked():
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 4))
    net[1].register_forward_hook(lambda module, given, out: out * 2)
    return net


def made(model=None, **given):
    net = mlp() if model is None else model()
    return fedfast.Simulation(net, federation([6, 8]), rounds=1, batch_size=4, **given)


@pytest.mark.parametrize("phrase", KNOWN)
def test_known_layers_are_a_layer_program(phrase):
    assert phrase in README.split("## Limits")[1].replace("\n", " ")
    assert made(KNOWN[phrase]).generic_because == ""


@pytest.mark.parametrize("phrase", SLOWER)
def test_anything_else_runs_through_the_module(phrase):
    (limits,) = re.findall(r"Anything else\s+\(([^)]*)\)", README)
    assert phrase in limits and limits.count(",") + 1 == len(SLOWER)
    sim = made(**SLOWER[phrase])
    assert sim.generic_because and sim.run(progress=False).last().status == "ok"


def test_nothing_is_downloaded_and_there_is_no_network():
    """No module of ours imports one that opens connections, but the launcher for Ray: it asks
    whether the cluster that the user's RAY_ADDRESS names listens."""
    network = {"urllib", "requests", "http", "socket", "ftplib", "httpx", "aiohttp"}
    for path in sorted({*(ROOT / "fedfast").rglob("*.py")} - {ROOT / "fedfast/sweep/ray_pool.py"}):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & network, path


def test_bring_your_own():
    """Partitions by index lists, models of any module, data of arrays: as README has it."""
    x, y = torch.randn(8, 3), torch.arange(8) % 2
    clients = fedfast.FederatedData.from_index((x.numpy(), y.numpy()), [[0, 1, 2], [5, 6]])
    model = nn.Sequential(nn.Linear(3, 2))
    sim = fedfast.Simulation(model, clients, fedfast.algorithms.FedSAM(rho=0.1), rounds=1)
    assert sim.run(progress=False).last().samples in (2, 3, 5)
    combined = algorithms.Algorithm(
        local=fedfast.SAM(),
        drift=algorithms.DRIFTS["dual"](),
        server=algorithms.SERVER_RULES["adam"](),
    )
    assert made(algorithm=combined).run(progress=False).last().status == "ok"
