"""Run folders as the command line leaves them, without training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from fedfast import config as configs
from fedfast.history import FIELDS, History, Row, cells, line

DOWN, UP = 1000, 500  # bytes of a round


def history(accuracies: Sequence[float], down: int = DOWN, up: int = UP) -> History:
    """Rounds 1, 2, ... with these accuracies, nan where the model was not tested."""
    return History(
        Row(t, accuracy=a, loss=1 - a, seconds=0.5, clients=5, bytes_down=down, bytes_up=up)
        for t, a in enumerate(accuracies, start=1)
    )


def config_text(folder: Path, algorithms: Mapping[str, object], **fields: object) -> str:
    """A resolved configuration, every default filled in."""
    given: dict[str, object] = {
        "data": {"name": "digits"},
        "partition": {"name": "dirichlet", "clients": 10, "alpha": 0.3},
        "model": {"name": "mlp", "hidden": [8]},
        "algorithms": dict(algorithms),
        "rounds": 4,
        **fields,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(given))
    return configs.dumps(configs.load(path))


def write_run(folder: Path, runs: Mapping[str, History], **fields: object) -> Path:
    """A run folder. `algorithms` in `fields` has options of labels, as a file would."""
    options = fields.pop("algorithms", {})
    assert isinstance(options, Mapping)
    text = config_text(folder, {label: options.get(label, {}) for label in runs}, **fields)
    (folder / "config.yaml").write_text(text)
    rows = [line((label, *cells(row, FIELDS))) for label, found in runs.items() for row in found]
    (folder / "history.csv").write_text(line(("algorithm", *FIELDS)) + "".join(rows))
    return folder


def write_table_row(folder: Path, label: str, run: History, **fields: object) -> Path:
    """A row of `fedfast reproduce` as older versions left it: no column `algorithm`."""
    write_run(folder, {label: run}, **fields)
    run.to_csv(folder / "history.csv")
    digest = hashlib.sha256((folder / "history.csv").read_bytes()).hexdigest()
    about = {"device": "a chip", "seconds": 12.5, "stopped": False, "history": digest}
    (folder / "about.json").write_text(json.dumps(about))
    return folder
