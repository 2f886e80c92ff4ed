"""`--launcher ray`: rows on a local Ray cluster; a worker that is killed ends its row alone."""

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fedfast import history
from fedfast.cli import main
from fedfast.sweep import ray_pool
from fedfast.sweep.ray_pool import Place

TINY = """\
data: {name: digits}
partition: {name: iid, clients: 6}
model: {name: mlp, hidden: [8]}
algorithms: {fedavg: {}, sharp: {name: fedsam, rho: 0.05}}
rounds: 3
participation: 0.5
threads: 1
callbacks: ["dying:dies"]
"""
OWN = """\
import os, time

def dies(sim, row):
    if row.round == 2 and getattr(sim.algorithm.local, "rho", 0) == 0.3:
        os._exit(9)
    if sim.rounds > 100:
        time.sleep(0.05)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "dying.py").write_text(OWN)
    return tmp_path


def test_rows_have_the_bits_of_local_ones(folder):
    """On one cluster: a sweep with a worker that dies, rows of a study, a sweep that is stopped."""
    pytest.importorskip("ray")
    program = Path(__file__).parent / "ray_session.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    with (folder / "swept" / "sweep.csv").open() as file:
        found = {row["folder"]: row for row in csv.DictReader(file)}
    dead = found.pop("algorithms.sharp.rho=0.3/sharp/seed-0")
    assert dead["status"] == "failed" and dead["error"].startswith("its Ray worker ended")
    assert (folder / "swept/algorithms.sharp.rho=0.3/sharp/seed-0/error.txt").exists()
    assert {row["status"] for row in found.values()} == {"done"} and len(found) == 2
    assert main(["sweep", "tiny.yaml", "--grid", "algorithms.sharp.rho=0.1", "--out", "here"]) == 0
    for name in found:
        label = name.split("/")[-2]
        theirs, ours = (
            folder / top / name / "checkpoint" / f"{label}.pt" for top in ("swept", "here")
        )
        assert theirs.read_bytes() == ours.read_bytes()
    with (folder / "scaled" / "scale.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done"]
    stopped = history.read_runs(folder / "stopped" / "fedavg" / "seed-0" / "history.csv")["fedavg"]
    assert 0 < len(stopped) < 1000
    assert (folder / "stopped/fedavg/seed-0/checkpoint/fedavg.state").exists()
    assert not list(folder.glob("*/.ray-*"))


def test_a_folder_that_nodes_do_not_share_is_said(tmp_path):
    place = Place(str(tmp_path), str(tmp_path / ".ray-token"), "secret")
    done = []
    found = ray_pool.remote(place, done.append, "row")
    assert found.status == "failed" and not done
    assert f"{tmp_path} is not the same folder on node {os.uname().nodename}" in found.error
    (tmp_path / ".ray-token").write_text("another's")
    assert ray_pool.remote(place, done.append, "row").status == "failed"
    (tmp_path / ".ray-token").write_text("secret")
    here = os.getcwd()
    ray_pool.remote(place, done.append, "row")
    os.chdir(here)
    assert done == ["row"]


def test_a_cluster_that_nobody_listens_for_is_said_at_once(monkeypatch):
    with socket.socket() as bound:  # which does not listen
        bound.bind(("127.0.0.1", 0))
        for address in (f"127.0.0.1:{bound.getsockname()[1]}", "ray://127.0.0.1:99999"):
            monkeypatch.setenv("RAY_ADDRESS", address)
            with pytest.raises(ValueError, match=f"cannot reach the cluster at {address}: "):
                ray_pool._connected(1)


def test_without_ray_the_extra_is_named(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    for command in ("sweep", "scale"):
        assert (
            main(
                [
                    command,
                    "tiny.yaml",
                    "--launcher",
                    "ray",
                    *["--seeds", "0"] * (command == "sweep"),
                ]
            )
            == 2
        )
        assert capsys.readouterr().err == (
            'fedfast: launcher: ray is not installed; pip install "fedfast[ray]"\n'
        )


def test_rows_that_fit_on_no_node_are_refused():
    nodes = [
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 9.0}},
    ]
    ray_pool._check_room(nodes, {"CPU": 2.0})
    with pytest.raises(ValueError, match="no node of the Ray cluster has 4 CPU, 1 GPU for a row"):
        ray_pool._check_room(nodes, {"CPU": 4.0, "GPU": 1.0})
