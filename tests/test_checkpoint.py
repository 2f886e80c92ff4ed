"""Saved states: other runs' are refused by name, damaged ones never taken, old ones still read."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from damage import flipped, outcome, states
from federation import arrays, federation, mlp
from interrupts import SIZES, differences, end_alike, everything, label_smoothing
from interrupts import simulation as interrupted
from torch import nn

import fedfast
from fedfast import algorithms as alg
from fedfast import checkpoint
from fedfast.checkpoint import container
from fedfast.checkpoint.contents import history_of, history_part
from fedfast.checkpoint.describe import describe

HERE = Path(__file__).parent


def data(sizes=tuple(SIZES), change=None, order=None):
    """Clients' data, perhaps a little different."""
    xs, ys = arrays(sizes)
    if change:
        change(xs, ys)
    made = fedfast.FederatedData.from_arrays(xs, ys)
    return made if order is None else replace(made, order=made.order[order])


def permute(xs, ys):
    ys[4] = ys[4].flip(0)


def nudge(xs, ys):
    xs[3][0, 0] += 1e-6


# Server moments and scalars, client rows of every kind, values, and models tuned at the end.
KINDS = {name: name for name in ("fedavg", "fedadam", "scaffold", "feddyn", "fedsmoo", "fedgloss")}
KINDS |= dict(fedwmsam="fedwmsam", fedfsa=alg.FedFSA(TopC=1), fedala=alg.FedALA(p=1))
KINDS |= dict(tuned=alg.FedAvg(fine_tune=alg.FineTune()))


def simulation(**options):
    """SCAFFOLD on ten clients; any argument can be another."""
    (x,), (y,) = arrays([40])
    given = dict(rounds=6, participation=0.4, local_epochs=2, batch_size=4, test=(x, y), lr=0.1)
    given |= options
    model, clients = given.pop("model", None) or mlp(), given.pop("clients", None) or data()
    algorithm = given.pop("algorithm", None) or alg.SCAFFOLD()
    return fedfast.Simulation(model, clients, algorithm, **given)


def net(act):
    """Two of these have the same tensors whatever `act` is."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 7), act, nn.Linear(7, 4))


class Own(nn.Module):
    """A user's own module, whose function nobody sees in its text."""

    def __init__(self, act):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.act = nn.Linear(8, 4), act

    def forward(self, x):
        return self.act(self.body(x))


def weighted(*weights):
    return nn.CrossEntropyLoss(weight=torch.tensor(weights))


def explicit(first=0, rounds=6):
    """The same clients and batches every round, those of the first round but for `first`."""
    batches = [[[[first, 1, 2]], [[0, 1]]]] + [[[[0, 1, 2]], [[0, 1]]]] * (rounds - 1)
    return fedfast.Schedule.explicit([[0, 2]] * rounds, batches)


OTHER = dict(lr=0.2, lr_decay=0.99, batch_size=5, local_epochs=1, participation=0.5, server_lr=0.5)
OTHER |= dict(weight_decay=1e-4, clip_norm=10.0, seed=1, precision="tf32", test=None)
OTHER |= dict(sampling="bernoulli", aggregation="uniform", on_divergence="continue")
OTHER |= dict(dtype=torch.float64, loss=label_smoothing)
# (what a saved run had, what another has instead)
FOREIGN = {name: (dict(), {name: value}) for name, value in OTHER.items()} | {
    "lr of a function": (dict(lr=lambda t: 0.1), dict(lr=lambda t: 0.1 if t < 1 else 0.2)),
    "lr of a function for a number": (dict(), dict(lr=lambda t: 0.1 / (t + 1))),
    "batch_size none": (dict(), dict(batch_size=None)),
    "loss weights": (dict(loss=weighted(1, 2, 1, 1.0)), dict(loss=weighted(1, 1, 2, 1.0))),
    "loss field": (
        dict(loss=nn.CrossEntropyLoss()),
        dict(loss=nn.CrossEntropyLoss(label_smoothing=0.1)),
    ),
    "loss lambda": (
        dict(loss=lambda z, y: nn.functional.cross_entropy(z, y)),
        dict(loss=lambda z, y: nn.functional.cross_entropy(z, y) * 2),
    ),
    "partition": (dict(), dict(clients=data(order=[1, 0, *range(2, 105)]))),
    "sizes": (dict(), dict(clients=data([1, 9, *SIZES[2:]]))),
    "labels": (dict(), dict(clients=data(change=permute))),
    "samples": (dict(), dict(clients=data(change=nudge))),
    "test samples": (dict(), dict(test=tuple(t[0] for t in arrays([40], seed=1)))),
    "model width": (dict(), dict(model=nn.Sequential(nn.Flatten(), nn.Linear(8, 4)))),
    "model function": (dict(model=net(nn.Tanh())), dict(model=net(nn.ReLU()))),
    "model attribute": (dict(model=Own(torch.tanh)), dict(model=Own(torch.sin))),
    "model weights": (dict(), dict(model=mlp(seed=1))),
    "model frozen": (dict(), dict(model=mlp().requires_grad_(True))),
    "algorithm": (dict(), dict(algorithm=alg.FedDyn())),
    "algorithm without state": (dict(algorithm=alg.FedAvg()), dict(algorithm=alg.FedProx())),
    "algorithm field": (dict(algorithm=alg.FedProx(mu=0.1)), dict(algorithm=alg.FedProx(mu=0.2))),
    "algorithm piece": (
        dict(algorithm=alg.Algorithm(local=fedfast.SAM(rho=0.1))),
        dict(algorithm=alg.Algorithm(local=fedfast.SAM(rho=0.2))),
    ),
    "algorithm option": (dict(), dict(algorithm=alg.SCAFFOLD(option="I"))),
    "keep_models": (dict(), dict(algorithm=alg.SCAFFOLD(keep_models=True))),
    "fine_tune": (dict(), dict(algorithm=alg.SCAFFOLD(fine_tune=alg.FineTune()))),
    "schedule": (dict(schedule=explicit()), dict(schedule=explicit(first=3))),
    "schedule for a drawn one": (dict(), dict(schedule=explicit())),
}
FOREIGN["model frozen"][1]["model"][1].bias.requires_grad_(False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Name of a foreign state -> a state of the other run, after two rounds."""
    folder, made = tmp_path_factory.mktemp("states"), {}

    def path(name):
        options = FOREIGN[name][0]
        key = name if options else "plain"
        if key not in made:
            sim = simulation(**options)
            for _ in itertools.islice(sim, 2):
                pass
            made[key] = folder / f"{len(made)}.pt"
            sim.save(made[key])
        return made[key]

    return path


@pytest.mark.parametrize("name", FOREIGN)
def test_a_state_of_another_run_is_refused_and_changes_nothing(name, saved):
    path = saved(name)
    sim = simulation(**FOREIGN[name][1])
    next(iter(sim))
    before = everything(sim)
    with pytest.raises(ValueError, match=path.name) as error:
        sim.load(path)
    assert not differences(everything(sim), before)
    word = name.split()[0]
    named = {"sizes": "data", "samples": "data", "labels": "data.y", "partition": "data.part"}
    named |= {"keep_models": "algorithm.keep_models", "fine_tune": "algorithm.fine_tune"}
    assert named.get(word, word) in str(error.value)


def test_every_difference_is_reported(saved):
    with pytest.raises(ValueError) as error:
        simulation(weight_decay=0.1, clip_norm=1.0, seed=3).load(saved("lr"))
    for found in ("seed 3, found 0", "weight_decay 0.1, found 0.0", "clip_norm 1.0, found None"):
        assert found in str(error.value)


FREE = dict(rounds=9, chunk=1, threads=1, memory=1.0, callbacks=[print], eval_every=3, eval_last=2)
FREE |= dict(device="cpu", empty_clients="refuse")


@pytest.mark.parametrize("name", FREE)
def test_what_changes_no_bit_may_differ(name, saved):
    sim = simulation(**{name: FREE[name]})
    sim.load(saved("lr"))
    assert sim.round == 2


def taken_on(short, parts, whole, path):
    """Whether `parts`, which goes on from the end of `short`, ends as `whole`."""
    short.run(progress=False)
    short.save(path)
    parts.load(path)
    return end_alike(parts, whole)


def test_a_function_with_the_same_rates_and_a_longer_schedule_are_the_same_run(tmp_path):
    def short():
        return simulation(lr=lambda t: 0.1 * 0.9**t, schedule=explicit())

    def long():
        rate = lambda t: 0.1 * 0.9**t if t < 8 else 0.01  # noqa: E731
        return simulation(lr=rate, schedule=explicit(rounds=8))

    assert taken_on(short(), long(), long(), tmp_path / "state.pt")


def test_the_same_values_describe_alike_in_another_process():
    code = (
        "from fedfast.checkpoint.describe import describe as d\n"
        "def f(z, y): return z if y in {'a', 'b', 'c'} else 0\n"
        "print(d(f))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(seen) == 1
    loop: list[object] = []
    loop.append(loop)
    assert describe(loop)  # an object that holds itself has an end


@pytest.mark.parametrize("bit", [3, 700, 9000, 30000, -1, -20000])
def test_a_bit_that_turned_over_is_never_taken(bit, tmp_path):
    path, sim = states("scaffold", tmp_path), interrupted("scaffold")
    flipped(path, bit % (8 * path.stat().st_size))
    assert outcome(sim, path) == "fell back" and sim.round == 2
    assert end_alike(sim, interrupted("scaffold"))
    flipped(checkpoint.previous(path), 4444)
    assert outcome(sim, path) == "refused"


@pytest.mark.parametrize("left", [0, 4, 8, 500, -1])
def test_half_a_file_is_never_taken(left, tmp_path):
    path = states("feddyn", tmp_path)
    path.write_bytes(path.read_bytes()[:left])
    assert outcome(interrupted("feddyn"), path) == "fell back"
    path.unlink()  # gone: the one before is there
    assert outcome(interrupted("feddyn"), path) == "fell back"
    checkpoint.previous(path).unlink()
    with pytest.raises(FileNotFoundError, match="expected a saved simulation"):
        interrupted("feddyn").load(path)


def test_parts_of_two_states_are_not_mixed(tmp_path):
    path = states("scaffold", tmp_path)
    held, before = path.read_bytes(), checkpoint.previous(path).read_bytes()
    checkpoint.previous(path).unlink()
    assert len(held) != len(before) or held != before
    path.write_bytes(held[:4000] + before[4000:])
    assert outcome(interrupted("scaffold"), path) == "refused"


def rows(tensors):
    return torch.cat([*tensors["clients row c_i"].blocks()])


CHANGES = {
    "server row": lambda m, t: t.update({"server row": t["server row"][:1]}),
    "server c": lambda m, t: t.update({"server c": t["server c"].double()}),
    "server row: expected finite": lambda m, t: t["server row"].fill_(float("nan")),
    "clients ids": lambda m, t: t["clients ids"].fill_(1),
    "clients ids: expected different": lambda m, t: t["clients ids"].add_(100),
    "clients row c_i": lambda m, t: t.update({"clients row c_i": rows(t)[:1]}),
    "differs in": lambda m, t: t.pop("server c"),
    "scalars": lambda m, t: m.update(scalars={"x": 1.0}),
    "stopped": lambda m, t: m.update(stopped="yes"),
    "rounds 1..": lambda m, t: t.update(history=doubled(t["history"])),
    "not rows of a history": lambda m, t: t.update(history=t["history"][:-3]),
}


def doubled(part):
    rows = history_of(part)
    return history_part((*rows, rows[-1]))


@pytest.mark.parametrize("message", CHANGES)
def test_everything_is_checked_before_anything_is_put_in(message, tmp_path):
    path = states("scaffold", tmp_path)
    manifest, tensors = container.read(path)
    manifest.pop("parts")
    CHANGES[message](manifest, tensors)
    other = tmp_path / "other"
    container.write(other, manifest, tensors)  # its checksums are right, its contents are not
    other.replace(path)
    checkpoint.previous(path).unlink(missing_ok=True)
    sim = interrupted("scaffold")
    next(iter(sim))
    before = everything(sim)
    with pytest.raises(ValueError, match=f"state.pt.*{message}"):
        sim.load(path)
    assert not differences(everything(sim), before)


def test_fewer_rounds_than_were_done_are_refused(tmp_path):
    path = states("fedavg", tmp_path)
    with pytest.raises(ValueError, match="it has done 3; expected at least as many, got 2"):
        interrupted("fedavg", rounds=2).load(path)


@pytest.mark.parametrize("name", ["scaffold", "fedfsa", "tuned"])
def test_states_of_the_first_format_are_read(name, tmp_path):
    """Written by the code before this format, after three rounds (tuned: after all six)."""
    sim, whole, again = (simulation(algorithm=KINDS[name], eval_every=2) for _ in range(3))
    sim.load(HERE / "states" / f"{name}.pt")
    for row in itertools.islice(whole, sim.round):
        kept = sim.history[row.round - 1]
        assert abs(kept.train_loss - row.train_loss) < 1e-6
    assert sim.round == (6 if name == "tuned" else 3)
    sim.save(tmp_path / "state.pt")  # and written as the second
    again.load(tmp_path / "state.pt")
    assert not differences(everything(again), everything(sim))
    again.run(progress=False)
    whole.run(progress=False)
    for a, b in zip(again.state_dict().values(), whole.state_dict().values(), strict=True):
        assert (a - b).abs().max() < 1e-5


def test_a_state_of_the_first_format_of_another_run_is_refused():
    path = HERE / "states" / "scaffold.pt"
    with pytest.raises(ValueError, match="seed 1, found 0"):
        simulation(seed=1).load(path)
    with pytest.raises(ValueError, match=r"lr: expected 0\.3 in round 1, found 0\.1"):
        simulation(lr=0.3).load(path)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("name", ["fedavg-ft", "keep", "scaffold", "both", "feddyn"])
def test_a_run_taken_on_to_more_rounds_is_the_run_that_never_stopped(name, every, tmp_path):
    kinds = {"keep": alg.FedAvg(keep_models=True), "scaffold": alg.SCAFFOLD()}
    kinds |= {"both": alg.FedAvg(keep_models=True, fine_tune=alg.FineTune())}

    def made(rounds):
        (x,), (y,) = arrays([40])
        clients = federation(SIZES).with_test([(x[:4], y[:4])] * len(SIZES))
        return simulation(
            clients=clients,
            algorithm=kinds.get(name, name),
            rounds=rounds,
            eval_every=every,
            eval_last=2,
        )

    first = made(5)
    assert taken_on(first, made(11), made(11), tmp_path / "state.pt")
    assert first.history[-1].accuracy == first.history[-1].accuracy


def test_a_link_is_replaced_and_never_written_through(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "state.pt"
    victim.write_text("precious")
    for name in ("state.pt", "state.pt.previous"):
        (tmp_path / name).symlink_to(victim)
    sim = simulation()
    for _ in range(3):
        sim.save(path)
    assert victim.read_text() == "precious" and not path.is_symlink()
    assert not checkpoint.previous(path).is_symlink()
    (tmp_path / ".state.pt.lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        sim.save(path)
    assert victim.read_text() == "precious"


def test_nothing_but_two_states_is_left(tmp_path):
    (tmp_path / ".state.partial-xyz.pt").write_text("of a process that was killed")
    sim = simulation()
    for _ in range(3):
        sim.save(tmp_path / "state.pt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.pt", "state.pt.previous"]


def test_another_process_at_the_same_file_is_named_by_its_number(tmp_path, monkeypatch):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom fedfast.files import locked\n"
        "with locked(Path(sys.argv[1]), 'x'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    lock = tmp_path / ".state.pt.lock"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        monkeypatch.setattr(checkpoint, "PATIENCE", 0.1)
        with pytest.raises(BlockingIOError, match=rf"state.pt: in use .*process {other.pid}"):
            simulation().save(tmp_path / "state.pt")
    finally:
        other.kill()
        other.communicate()
    simulation().save(tmp_path / "state.pt")  # the system let go of it


def test_a_full_disk_leaves_the_old_state(tmp_path):
    sim, path = simulation(), tmp_path / "state.pt"
    sim.save(path)
    held = path.read_bytes()
    next(iter(sim))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, old[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write.*state\.pt"):
            sim.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert path.read_bytes() == held and len(list(tmp_path.iterdir())) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulation().load(path)


def test_a_file_is_what_other_readers_of_safetensors_read(tmp_path):
    from safetensors.torch import load_file

    path = states("fedfsa", tmp_path)
    found = load_file(path)
    assert {"server row", "clients ids", "clients value top", "history"} <= set(found)
    sim = interrupted("fedfsa")
    sim.load(path)
    assert torch.equal(found["server row"], sim._engine.state.row)
    mask = os.umask(0)
    os.umask(mask)
    assert oct(path.stat().st_mode & 0o777) == oct(0o666 & ~mask)
