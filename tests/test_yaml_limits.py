"""YAML that is no configuration, or asks for too much, is refused with its line."""

import pytest
from refused import refused

from fedfast.config import ConfigError
from fedfast.config import load as load_config

BASE = """data: {name: digits}
partition: {name: dirichlet, clients: 5, alpha: 0.5}
model: {name: mlp}
algorithms: {fedavg: {}}
"""
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)
YAML = {
    "[" * 3000 + "]" * 3000: "nested more than 32 levels deep",
    "{a: " * 3000 + "1" + "}" * 3000: "nested more than 32 levels deep",
    "- " * 3000 + "1": "nested more than 32 levels deep",
    BASE + "lr: " + "[" * 3000: "nested more than 32 levels deep",
    "a: &a [*a]": "holds itself",
    "a: &a {b: *a}": "holds itself",
    "&a\nb: {c: *a}": "holds itself",
    BASE + LAUGHS: "unfold to more than 100,000 values",
    BASE + LAUGHS.replace("[", "{k: [").replace("]", "]}"): "unfold to more than 100,000 values",
    BASE + "rounds: 1\nrounds: 2": ":6: rounds: given twice",
    BASE + "lr: {name: a, name: b}": ":5: lr.name: given twice",
    BASE + "x: [{a: 1, a: 2}]": r":5: x\.0\.a: given twice",
    BASE + "\trounds: 1": ":5:1: YAML syntax",
    BASE + "rounds: " + "1" * 5000: ":5:9: .*cannot be read",
    BASE + "rounds: 0x" + "f" * 5000: ":5:9: .*an integer of 20000 bits",
    BASE + f"lr: {10**400}": ":5:5: .*an integer of 1329 bits",
    BASE + "rounds: 2001-99-99": ":5:9: .*cannot be read: month",
    BASE + "lr: !!float abc": ":5:5: .*cannot be read",
    BASE + "x: !!bool abc": ":5:4: .*cannot be read",
    BASE + "rounds: !!python/object/apply:os.system ['true']": ":5:9: .*could not determine",
    BASE + "[a]: 1": ":5: expected a name as key",
    BASE + "lr: .nan": "lr: expected a finite number",
    BASE + "lr: .inf": "lr: expected a finite number",
    BASE + "participation: .nan": "participation: expected",
    BASE + "rounds: '10'": "rounds: expected an integer, found '10'",
    BASE + "threads: 1000000000": "threads: expected a number less than or equal to 4096",
    BASE + "rounds: 1000000000000000000": "rounds: expected a number less than",
    BASE + "batch_size: 1000000000000000000": "batch_size: expected a number less than",
    BASE + "local_epochs: 1000000000000": "local_epochs: expected a number less than",
    BASE + "chunk: 1000000000000": "chunk: expected a number less than",
    BASE.replace("clients: 5", "clients: 1000000000000"): "partition.clients: expected a number",
    "a: 1\n" * 300_000: "expected at most 1,048,576 bytes",
}


@pytest.mark.parametrize("text", YAML, ids=range(len(YAML)))
def test_yaml_that_is_no_configuration(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    refused(lambda: load_config(path), f"run.yaml.*{YAML[text]}", ConfigError)


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "run.yaml"
    for raw in (BASE.encode() + b"x: \xe9", BASE.encode("utf-16"), bytes(100)):
        path.write_bytes(raw)
        refused(lambda: load_config(path), "run.yaml.*(not UTF-8|YAML syntax)", ConfigError)
    refused(lambda: load_config("/dev/zero"), "expected at most", ConfigError)


def test_aliases_and_merges_stay_allowed(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        BASE.replace("{fedavg: {}}", "\n  fedsam: &s {rho: 0.2}\n  b: {name: fedsam, <<: *s}")
    )
    config = load_config(path, ["--rounds", "3"])
    assert config.rounds == 3 and config.algorithms["b"].options()["rho"] == 0.2
