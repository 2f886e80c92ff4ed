"""Several processes train as one does, to the bit; and what happens when one dies."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rank_runs
import torch
from fedfast.kernels.summation import leaf_size
from hypothesis import given
from hypothesis import strategies as st

from fedfast import checkpoint
from fedfast.cli import main
from fedfast.distributed.shares import Shares

CASES = [*rank_runs.NAMES, "kept models", "tuned", "decay per epoch"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what 1, 2 and 4 processes came to, made once."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(rank_runs.__file__)
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, str(script), str(folder)], env=env, timeout=300)
    logs = "".join(path.read_text()[-3000:] for path in sorted(folder.glob("log*.txt")))
    assert done.returncode == 0, logs
    return folder


def read(folder: Path, size: int) -> dict[str, Any]:
    return torch.load(folder / f"found{size}.pt", weights_only=False)


def same(a: Any, b: Any, where: str) -> None:
    """Equal to the bit, nan included."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for name in a:
            same(a[name], b[name], f"{where}: {name}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=where)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b, err_msg=where)
    elif isinstance(a, float) and math.isnan(a):
        assert math.isnan(b), where
    else:
        assert a == b, where


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_are_one_process_to_the_bit(found: Path, size: int) -> None:
    one, several = read(found, 1), read(found, size)
    for name in CASES:
        same(several[name], one[name], f"{size} ranks, {name}")


@pytest.mark.parametrize("name", rank_runs.RESUMED)
def test_a_run_goes_on_with_another_number_of_ranks(found: Path, name: str) -> None:
    """One round by 2, one by 1, one by 4."""
    whole, parts = read(found, 1)[name], read(found, 4)[f"resumed {name}"]
    whole.pop("personal", None)
    same(parts, whole, name)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_run_with_its_last_round(
    found: Path, tmp_path: Path, victim: int
) -> None:
    """Also where clients keep rows (SCAFFOLD): nothing was saved before."""
    statuses = torch.load(found / "statuses.pt", weights_only=False)[victim]
    folder, said = found / f"killed{victim}", (found / f"killed{victim}.txt").read_text()
    assert os.waitstatus_to_exitcode(statuses[victim]) == -signal.SIGKILL
    assert os.waitstatus_to_exitcode(statuses[1 - victim]) == 1
    last = [line for line in said.splitlines() if line.startswith("fedfast: ")][-1]
    assert f"rank {victim} (" in last and "is gone" in last and "goes on from there" in last
    assert "Traceback" not in said
    kept = pd.read_csv(folder / "history.csv")
    assert 3 <= len(kept) < 400
    assert len(checkpoint.history(folder / "checkpoint" / "scaffold.state")) == len(kept)
    rounds = str(len(kept) + 1)
    assert main(["resume", str(folder), "--rounds", rounds]) == 0
    config = str(found / "killed.yaml")
    assert main(["run", config, "--rounds", rounds, "--out", str(tmp_path / "whole")]) == 0
    folders = tmp_path / "whole", folder
    whole, resumed = (pd.read_csv(folder / "history.csv") for folder in folders)
    columns = ["round", "train_loss", "update_norm", "accuracy"]
    last_rows = whole[columns].tail(1).to_numpy(), resumed[columns].tail(1).to_numpy()
    np.testing.assert_array_equal(*last_rows)


def test_a_rank_that_fails_and_lives_on_is_missed(found: Path) -> None:
    statuses = torch.load(found / "statuses.pt", weights_only=False)["outlived"]
    assert statuses == [0, 0], (found / "outlived.txt").read_text()
    assert (found / "lost.txt").read_text().endswith("): ValueError: of rank 1 alone")


def test_ranks_with_different_configs_are_told(found: Path) -> None:
    statuses = torch.load(found / "statuses.pt", weights_only=False)["differing"]
    assert [os.waitstatus_to_exitcode(status) for status in statuses] == [2, 2]
    said = (found / "differing.txt").read_text().splitlines()
    assert said == [
        "fedfast: rank 1: expected the config of rank 0, batch_size 10; got batch_size 20"
    ]
    assert not (found / "none").exists()


@given(
    work=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=200),
    ranks=st.integers(1, 9),
)
def test_shares_are_whole_leaves_of_about_equal_work(work: list[float], ranks: int) -> None:
    ordered = np.sort(np.array(work))[::-1]
    shares = Shares.of(ordered, ranks)
    parts = [shares.part(rank) for rank in range(ranks)]
    assert parts[0].start == 0 and parts[-1].stop == len(work)
    assert all(a.stop == b.start for a, b in zip(parts, parts[1:], strict=False))
    size = leaf_size(len(work))
    assert all(part.start % size == 0 or part.start == len(work) for part in parts)
    assert np.bincount(shares.ranks(), minlength=ranks).tolist() == [
        p.stop - p.start for p in parts
    ]
    # No more than the equal part, and the leaf in which a cut lies on either side.
    most = max(ordered[i : i + size].sum() for i in range(0, len(work), size))
    heaviest = max(ordered[part].sum() for part in parts)
    assert heaviest <= (ordered.sum() / ranks + most) * (1 + 1e-9) + 1e-9


def test_ranks_need_a_process_group() -> None:
    with pytest.raises(ValueError, match="ranks: expected torch.distributed.init_process_group"):
        rank_runs.simulation("fedavg", "all")
    with pytest.raises(ValueError, match="ranks: "):
        rank_runs.simulation("fedavg", "many")


def test_other_commands_are_refused_to_several_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = dict(RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert main(["sweep", "some.yaml"]) == 2
    assert "sweep: expected one process" in capsys.readouterr().err
