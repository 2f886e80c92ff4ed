"""A configuration is read exactly, or refused with a line its author can act on."""

import inspect
from pathlib import Path

import pytest
from fedfast.kernels._args import PRECISIONS

from fedfast import config, data
from fedfast.config.sections import PartitionSection, section

BASE = """\
data: {name: digits}
partition:
  name: dirichlet
  clients: 6
  alpha: 0.3
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, sharp: {name: fedsam, rho: 1e-2}}
rounds: 3
"""


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def refused(path, *flags, text=None):
    if text is not None:
        path.write_text(text)
    with pytest.raises(config.ConfigError) as caught:
        config.load(path, flags)
    return str(caught.value)


def test_defaults_are_filled_in(base):
    found = config.load(base)
    assert found.out == str(Path("runs/base")) and found.lr == 0.1
    assert found.partition_options() == {"clients": 6, "alpha": 0.3, "min_size": 1, "seed": 0}
    assert found.algorithms["sharp"].options()["rho"] == 0.01  # 1e-2 is a number
    assert found.algorithms["fedavg"].options()["local"]["name"] == "sgd"


def test_saved_and_loaded_again_it_is_the_same(base, tmp_path):
    flags = ["--lr", "1e-5", "--clip_norm", "10", "--model.hidden", "4", "5", "--out", "1e-3"]
    found = config.load(base, flags)
    config.save(found, tmp_path / "again.yaml", "two\nlines")
    assert config.load(tmp_path / "again.yaml") == found
    assert found.out == "1e-3" and found.lr == 1e-5


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_of_the_operations_can_be_asked_for(base, precision):
    assert config.load(base, ["--precision", precision]).precision == precision
    assert "precision" in refused(base, "--precision", "fp16")


def test_flags_go_before_the_file(base):
    found = config.load(
        base,
        ["--rounds=5", "--partition.alpha", "0.1", "--algorithms.sharp.rho", "0.2",
         "--model.hidden", "[4,5]", "--local-epochs", "2", "--clip_norm", "null",
         "--algorithms.fedavg.local.momentum", "0.9"],
    )  # fmt: skip
    assert (found.rounds, found.local_epochs, found.partition.alpha) == (5, 2, 0.1)
    assert found.algorithms["sharp"].options()["rho"] == 0.2
    assert found.model.options() == {"hidden": [4, 5]}
    assert found.algorithms["fedavg"].options()["local"]["momentum"] == 0.9


def test_another_name_begins_its_section_anew(base):
    found = config.load(base, ["--partition.name", "iid", "--model.name", "mclr"])
    assert found.partition_options() == {"clients": 6, "sigma": 0.0, "seed": 0}
    assert found.model.options() == {}
    needs = refused(base, "--partition.name", "shards")
    assert "partition.classes_per_client: needed, but not given" in needs


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("alpha: 0.3", "alhpa: 0.3", "base.yaml:5: partition.alhpa: unknown field, nearest: alpha"),
        ("alpha: 0.3", "alpha: -1", "base.yaml:5: partition.alpha: expected a number gr"),
        ("rounds: 3", "roundz: 3", "base.yaml:8: roundz: unknown field, nearest: rounds"),
        ("rounds: 3", "rounds: yes", "base.yaml:8: rounds: expected an integer, found True"),
        ("rounds: 3", "rounds: '3'", "base.yaml:8: rounds: expected an integer, found '3'"),
        ("rounds: 3", "lr: .nan", "base.yaml:8: lr: expected a finite number, found nan"),
        ("rounds: 3", "rounds: 3\nrounds: 4", "base.yaml:9: rounds: given twice (first on line 8)"),
        ("rounds: 3", "rounds: [3", "YAML syntax"),
        ("rounds: 3", "device: gpu", "device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
        (
            "name: dirichlet",
            "name: dirichle",
            "base.yaml:3: partition.name: unknown name 'dirichle'; did you mean 'dirichlet'",
        ),
        ("name: digits", "nam: digits", "base.yaml:1: data.nam: unknown field, nearest: name"),
        ("hidden: [8]", "hiden: [8]", "base.yaml:6: model.hiden: unknown field, nearest: hidden"),
        ("hidden: [8]", "hidden: x", "model.hidden: expected a list, found 'x'"),
        (
            "rho: 1e-2",
            "roh: 1",
            "base.yaml:7: algorithms.sharp: algorithm fedsam, param",
        ),
        ("fedavg: {}", "fedavgg: {}", "did you mean 'fedavg'"),
        ("fedavg: {}", "fedavg: 3", "base.yaml:7: algorithms.fedavg: expected a mapping, found 3"),
        ("fedavg: {}", "a/b: {}", "expected a label of letters, digits"),
        ("data: {name: digits}\n", "", "base.yaml: data: needed, but not given"),
        (BASE, "", "expected a mapping of fields (rounds: 10), found nothing"),
        (BASE, "- 1", "expected a mapping of fields (rounds: 10), found list"),
    ],
)
def test_a_mistake_in_the_file_is_said_with_its_line(base, old, new, says):
    assert says in refused(base, text=BASE.replace(old, new))


def above(field):
    """A number that an option takes: one more than its lower bound."""
    bounds = (getattr(note, kind, None) for note in field.metadata for kind in ("gt", "ge"))
    return 1 + max((bound for bound in bounds if bound is not None), default=0)


@pytest.mark.parametrize("name", data.PARTITIONS)
def test_every_partition_can_be_written_and_takes_what_its_function_takes(base, name):
    taken = inspect.signature(data.PARTITIONS[name]).parameters.keys() - {"samples", "test"}
    fields = section(PartitionSection, {"name": name}).model_fields
    needed = {key: above(field) for key, field in fields.items() if field.is_required()}
    given = ", ".join(f"{key}: {needed[key]}" for key in needed.keys() & taken)
    base.write_text(f"{BASE[: BASE.index('partition')]}partition: {{name: {name}, {given}}}\n"
                    f"{BASE[BASE.index('model') :]}")  # fmt: skip
    assert config.load(base).partition_options().keys() == taken


@pytest.mark.parametrize(("given", "read"), [("auto", "auto"), ("8", 8), ("0.5", 0.5)])
def test_memory_is_auto_or_gib(base, given, read):
    assert config.load(base, ["--memory", given]).memory == read
    base.write_text(BASE + f"memory: {given}")
    assert config.load(base).memory == read


@pytest.mark.parametrize("given", ["0", "-1", "much", ".nan", ".inf", "true"])
def test_other_memory_is_refused(base, given):
    (line,) = refused(base, text=BASE + f"memory: {given}").splitlines()
    assert "base.yaml:9: memory: expected auto or a number of GiB above 0, found" in line


def test_every_mistake_is_said_at_once(base):
    text = BASE.replace("rounds: 3", "rounds: 0\nlr: x")
    assert len(refused(base, text=text).splitlines()) == 2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--partition.alpah 1", "--partition.alpah: unknown field, nearest: alpha (known here"),
        ("--roundz 1", "--roundz: unknown field, nearest: rounds"),
        ("--rounds ten", "--rounds: expected an integer, found 'ten'"),
        ("--participation 2", "--participation: expected a number less than or equal to 1"),
        ("--partition iid", "--partition: is a section; give one of its fields: --partition.name"),
        ("--algorithms.fedprox.mu 1", "--algorithms.fedprox: unknown field (known here: fedavg"),
        ("--algorithms.sharp.rho x", "with --algorithms.sharp.rho: algorithms.sharp: rho: "),
        ("--algorithms.sharp.roh 1", "did you mean 'rho'"),
    ],
)
def test_a_mistake_in_a_flag_is_said_with_the_flag(base, flags, says):
    assert says in refused(base, *flags.split())


@pytest.mark.parametrize("flags", [["--rounds"], ["--rounds", "3", "4"], ["3"], ["-x"]])
def test_what_is_no_flag_at_all_exits_with_2(base, flags, capsys):
    with pytest.raises(SystemExit) as caught:
        config.load(base, flags)
    assert caught.value.code == 2 and capsys.readouterr().err


def test_help_shows_every_field_with_its_value_here(base, capsys):
    with pytest.raises(SystemExit) as caught:
        config.load(base, ["--help", "--rounds", "7"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    # A paper's values and a grid are no setting.
    for name in set(config.RunConfig.model_fields) - {"paper", "sweep"}:
        assert f"--{name}" in text
    for part in ("--partition.alpha FLOAT", "(default: 0.3)", "--algorithms.sharp.rho FLOAT"):
        assert part in text


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    assert "cannot be read: No such file" in refused(tmp_path / "none.yaml")
    assert "cannot be read: Is a directory" in refused(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"out: \xe9")
    assert "not UTF-8" in refused(tmp_path / "latin.yaml")


@pytest.mark.parametrize("name", ["quickstart", "fashion-mnist"])
def test_the_examples_are_valid(name):
    assert config.load(Path(__file__).parents[1] / "examples" / f"{name}.yaml").rounds >= 30


GLOSS = """\
data: {{name: digits}}
partition: {{name: iid, clients: 4}}
model: {{name: mlp}}
algorithms: {{fedgloss: {{rho: 0.2, rho0: 0.01, T_s: 5, local: {{name: sam, rho: {rho}}}}}}}
"""


@pytest.mark.parametrize("rho", ["-1", "0.15, epsilon: 1"])
def test_a_wrong_component_is_not_replaced_by_the_default(tmp_path, rho):
    """It would train with SGD, and say nothing."""
    (tmp_path / "gloss.yaml").write_text(GLOSS.format(rho=rho))
    with pytest.raises(config.ConfigError, match=r"yaml:4: algorithms\.fedgloss: local: "):
        config.load(tmp_path / "gloss.yaml")


def test_a_component_that_the_algorithm_refines_is_kept(tmp_path):
    (tmp_path / "gloss.yaml").write_text(GLOSS.format(rho=0.15))
    local = config.load(tmp_path / "gloss.yaml").algorithms["fedgloss"].options()["local"]
    assert local["name"] == "sam" and local["rho"]["end"] == 0.15
