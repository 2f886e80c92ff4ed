"""docs/migration.md: what it calls ours is ours, with parameters that are taken."""

import re
from dataclasses import fields
from functools import reduce
from inspect import signature
from pathlib import Path

import pytest
import yaml

import fedfast
from fedfast import config
from fedfast.history import Row
from fedfast.options import SimulationOptions

TEXT = (Path(__file__).parent.parent / "docs/migration.md").read_text(encoding="utf-8")
ROOMS = {"fedfast", "here", "least change"}  # columns that speak of ours
BASE = {"data": {"name": "digits"}, "model": {"name": "mlp"}, "algorithms": {"fedavg": {}}}
ALWAYS = {"iid": {}, "natural": {}, "shards": {"classes_per_client": 2}}
FILES = {"history.csv", "best"}  # what a run leaves behind


def cells():
    """The cells of columns that speak of ours, row after row of every table."""
    ours: list[int] = []
    for line in TEXT.splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else []
        if ROOMS & set(row):
            ours = [i for i, cell in enumerate(row) if cell in ROOMS]
        yield from (row[i] for i in ours if i < len(row) and "---" not in row[i])


CODE = sorted({code for cell in cells() for code in re.findall(r"`([^`]+)`", cell)})
SETTINGS = [code for code in CODE if re.match(r"[a-z_]+: ", code)]
NAMES = [code for code in CODE if re.fullmatch(r"[a-z_.]+=?", code)]


def test_every_kind_of_name_was_found():
    assert len(SETTINGS) > 40 and len(NAMES) > 5
    left = set(CODE) - set(SETTINGS) - set(NAMES) - set(re.findall(r"`(fedfast[^`]*)`", TEXT))
    assert left <= {"ServerApp", "Backend", "max(1, round(participation * N))"}


@pytest.mark.parametrize("code", SETTINGS)
def test_settings_are_taken(code, tmp_path):
    found = BASE | {"partition": {"name": "iid"}} | yaml.safe_load(code.replace("1e-7", "1.0e-7"))
    if found["partition"]["name"] != "natural":
        found["partition"].setdefault("clients", 10)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(found))
    config.load(tmp_path / "run.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_names_exist(name):
    options = {field.name for field in fields(SimulationOptions)} | set(
        config.RunConfig.model_fields
    )
    if name.endswith("="):
        assert name[:-1] in signature(fedfast.Cohort.train).parameters
    else:
        assert name in options | {field.name for field in fields(Row)} | FILES


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`fedfast\.([\w.]+)[`(]", TEXT))))
def test_what_python_calls_is_there(name):
    assert callable(reduce(getattr, name.split("."), fedfast)) or name in ("data",)
