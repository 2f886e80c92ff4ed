"""docs/forks.md: the client loops of other projects' shapes, replaced by one call."""

import random
import re
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from federation import mlp
from torch.nn.utils import parameters_to_vector

ROOT = Path(__file__).parent.parent
DIFFS = re.findall(r"^```diff\n(.*?)^```$", (ROOT / "docs/forks.md").read_text(), re.M | re.S)
MOST = 30  # changed lines of a patch


def loaded(path: Path):
    """A module from a file, anew."""
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """name -> (stand-in, patched stand-in)."""
    folder = tmp_path_factory.mktemp("forks")
    (folder / "tests/forks").mkdir(parents=True)
    made = {}
    for diff in DIFFS:
        name = re.search(r"^\+\+\+ b/(.*)$", diff, re.M)[1]
        (folder / name).write_text((ROOT / name).read_text())
        subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=folder, check=True)
        made[Path(name).stem] = loaded(ROOT / name), loaded(folder / name)
    return made


def test_patches_are_short():
    assert len(DIFFS) == 2
    for diff in DIFFS:
        assert len(re.findall(r"^[+-](?![+-])", diff, re.M)) <= MOST


def flat_vectors(module, method):
    """A run of FL-Simulator's shape; one batch per epoch, so that no order is drawn."""
    rng = np.random.default_rng(0)
    sizes = [5, 9, 7, 12, 6]
    data = SimpleNamespace(
        client_x=[rng.normal(size=(n, 8)).astype(np.float32) for n in sizes],
        client_y=[rng.integers(0, 4, (n, 1)) for n in sizes],
    )
    args = SimpleNamespace(
        total_client=5, comm_rounds=4, batchsize=50, local_epochs=4, weight_decay=1e-2,
        local_learning_rate=0.5, global_learning_rate=0.9, lr_decay=0.9, seed=20, rho=0.3,
    )  # fmt: skip
    model = mlp()
    start = parameters_to_vector(model.parameters()).detach().clone()
    server = module.Server("cpu", mlp, model, start, data, method, args)
    server.train()
    return server


@pytest.mark.parametrize("method", ["FedAvg", "FedSAM"])
def test_flat_vectors(both, method):
    own, patched = (flat_vectors(module, method) for module in both["flat_vectors"])
    for name in ("server_model_params_list", "clients_params_list", "clients_updated_params_list"):
        assert (getattr(own, name) - getattr(patched, name)).abs().max() < 1e-5, name
    other = flat_vectors(both["flat_vectors"][0], {"FedAvg": "FedSAM", "FedSAM": "FedAvg"}[method])
    assert (own.server_model_params_list - other.server_model_params_list).abs().max() > 1e-3


def client_objects(module, rho, size=10):
    """A run of PFLlib's shape, whole batches alone."""
    rng = np.random.default_rng(0)
    np.random.seed(1)
    random.seed(1)
    xs = torch.from_numpy(rng.normal(size=(5, size, 8)).astype(np.float32))
    data = [list(zip(x, rng.integers(0, 4, size).tolist(), strict=True)) for x in xs]
    args = SimpleNamespace(
        model=mlp(), train_data=data, batch_size=10, local_epochs=4, local_learning_rate=0.5,
        learning_rate_decay=True, learning_rate_decay_gamma=0.9, rho=rho, join_ratio=0.6,
        global_rounds=3,
    )  # fmt: skip
    server = module.Server(args, 0)
    server.train()
    return server


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_client_objects(both, rho):
    own, patched = (client_objects(module, rho) for module in both["client_objects"])
    pairs = [(own.global_model, patched.global_model)]
    pairs += [(a.model, b.model) for a, b in zip(own.clients, patched.clients, strict=True)]
    for a, b in pairs:
        difference = parameters_to_vector(a.parameters()) - parameters_to_vector(b.parameters())
        assert difference.abs().max() < 1e-5
    for a, b in zip(own.clients, patched.clients, strict=True):
        assert a.optimizer.param_groups[0]["lr"] == b.optimizer.param_groups[0]["lr"]


def test_short_batches_are_left_out_in_both(both):
    """Of 19 samples 10 are seen per epoch, others in every one: nothing but a count is the same."""
    own, patched = (client_objects(module, 0.0, size=19) for module in both["client_objects"])
    sizes = [len(own.clients[0].load_train_data())] * len(patched.selected_clients)
    update = patched.cohort.train([client.id for client in patched.selected_clients])
    assert update.steps.tolist() == [4 * n for n in sizes] == [4] * len(sizes)
