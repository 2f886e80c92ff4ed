"""Where clients' rows are kept changes no bit, nor does what breaks a round off; rounded rows."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from federation import federation, flat, mlp
from fedfast.kernels import PlacedRows
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fedfast
from fedfast import algorithms as alg
from fedfast import memory, row_memory, row_tiers
from fedfast.clients import ClientState
from fedfast.row_memory import FileRows, MemoryRows, pitch, reserved
from fedfast.row_staging import StagedTables
from fedfast.row_tables import RowShape
from fedfast.row_tiers import RowNeed, RowTier

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SIZES = [9, 1, 13, 4, 30, 2, 8, 21]
STATEFUL = [n for n in alg.names() if n != "fedcr" and alg.by_name(n).client_rows()]


def simulation(name: str = "feddyn", **kwargs: object) -> fedfast.Simulation:
    given = dict(rounds=6, participation=0.5, local_epochs=1, batch_size=4)
    return fedfast.Simulation(mlp(), federation(SIZES), name, **(given | kwargs))


def everything(sim: fedfast.Simulation) -> list[Tensor]:
    """The model, and every client's rows and values."""
    ids = sim._engine.clients.kept_ids()
    rows, values = sim._engine.clients.export(ids)
    return [flat(sim.state_dict()), ids, *rows.values(), *values.values()]


def equal(one: fedfast.Simulation, other: fedfast.Simulation) -> bool:
    pairs = zip(everything(one), everything(other), strict=True)
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs)


@pytest.mark.parametrize("name", STATEFUL)
def test_no_tier_and_no_chunk_changes_a_bit(name: str, tmp_path: Path) -> None:
    plain = simulation(name)
    plain.run(progress=False)
    for chunk in (None, 2):
        disk = dict(client_rows="disk", client_rows_folder=str(tmp_path), chunk=chunk)
        sim = simulation(name, **disk)
        assert sim.rows.name == "disk"
        sim.run(progress=False)
        assert equal(sim, plain)
    assert not list(tmp_path.iterdir())  # the file has no name


@pytest.mark.parametrize("name", ["feddyn", "scaffold", "fedala"])
def test_rounded_rows_are_the_same_on_any_tier_and_in_any_chunk(name: str, tmp_path: Path) -> None:
    half = dict(client_rows_dtype="bfloat16", client_rows_folder=str(tmp_path))
    plain = simulation(name, **half)
    plain.run(progress=False)
    assert all(t.dtype == torch.bfloat16 for t in plain._engine.clients.row_kinds().values())
    for how in (dict(client_rows="disk"), dict(chunk=1), dict(client_rows="disk", chunk=3)):
        sim = simulation(name, **half, **how)
        sim.run(progress=False)
        assert equal(sim, plain)


def test_rounded_duals_are_the_nearest_to_the_formula_in_float64() -> None:
    """`h <- round(h + (v - w))`, from what a client came with and what it did."""
    half = dict(client_rows_dtype="bfloat16", participation=0.75)
    sim = simulation(dtype=torch.float64, **half)
    held = torch.zeros(len(SIZES), sim.layout.trained, dtype=torch.float64)
    before, engine = sim._engine.state.row.clone(), sim._engine
    for _ in sim:
        cohort = engine.clients.cohort()
        models = engine.trainer.live.w[cohort.order, : sim.layout.trained]
        exact = held[cohort.ids] + (models - before[: sim.layout.trained])
        held[cohort.ids] = exact.to(torch.bfloat16).double()
        found = engine.clients.export(cohort.ids)[0]["h_i"]
        assert found.dtype == torch.bfloat16
        assert torch.equal(found.double(), held[cohort.ids]) and found.abs().max() > 0
        before = engine.state.row.clone()


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_places_hold_what_was_written_to_them(data: st.DataObject, tmp_path_factory) -> None:
    """Rounds of any cohorts, some broken off, some expected and some not, against a dict."""
    folder = tmp_path_factory.mktemp("rows")
    dtype = data.draw(st.sampled_from([None, torch.bfloat16]))
    name = data.draw(st.sampled_from(["device", "host", "disk"]))
    tier = RowTier(name, dtype, 4, 2, folder if name == "disk" else None)
    clients = ClientState({"c": "zeros"}, {"n": torch.zeros(2)}, 9, torch.zeros(64), 64, tier)
    mirror = {i: 0.0 for i in range(9)}
    cohorts = st.lists(st.integers(0, 8), min_size=1, max_size=5, unique=True)
    for t in range(1, data.draw(st.integers(1, 8))):
        ids = torch.tensor(data.draw(cohorts))
        for keeps in data.draw(st.sampled_from([(True,), (False, True), (False, False, True)])):
            after = clients.begin(ids, torch.zeros(64))
            clients.expect(torch.tensor(data.draw(cohorts)))
            room = torch.zeros(2, len(ids), dtype=torch.int64)
            came, kept = after.placed(ids, room)
            assert came["c"].gathered()[:, 0].tolist() == [mirror[int(i)] for i in ids]
            new = torch.tensor([float(100 * t + int(i)) for i in ids])
            rounded = new.to(dtype or torch.float32).double()
            kept["c"].copy_((new if keeps else new + 0.5)[:, None].expand(-1, 64))
            after.scatter(ids, {}, {"n": torch.full((len(ids), 2), float(t))})
            if keeps:
                clients = after
                mirror |= dict(zip(ids.tolist(), rounded.tolist(), strict=True))
        for i in range(9):
            row = clients.row("c", i)
            assert (0.0 if row is None else float(row[0])) == mirror[i]


def test_rows_move_between_processes_and_a_round_that_is_broken_off_takes_them_again() -> None:
    here, there = (
        ClientState({"c": "zeros"}, {"n": torch.zeros(2)}, 9, torch.zeros(64), 64) for _ in range(2)
    )
    ids = torch.tensor([5, 2])

    def round_of(state: ClientState, ids: Tensor, add: float) -> ClientState:
        after = state.begin(ids, torch.zeros(64))
        rows = torch.empty(len(ids), 64)
        values = after.gather(ids, {"c": rows})
        after.scatter(ids, {"c": rows + add}, {"n": values["n"] + 1})
        return after

    here = round_of(here, ids, 3.0)
    assert here.holds(torch.tensor([2, 3, 5])).tolist() == [True, False, True]
    rows, values = here.export(ids)
    for _ in range(3):
        there.adopt(ids, rows, values)
        after = round_of(there, torch.tensor([2, 5, 7]), 1.0)
        assert there.kept_ids().tolist() == []
    there = after
    assert [float(there.row("c", i)[0]) for i in (2, 5, 7)] == [4.0, 4.0, 1.0]
    assert there.values["n"][:, 0].tolist() == [0, 0, 2, 0, 0, 2, 0, 1, 0]
    after = here.begin(torch.tensor([1]), torch.zeros(64))
    after.scatter(torch.tensor([1]), {"c": torch.ones(1, 64)}, {"n": torch.ones(1, 2)})
    after.drop(ids)
    assert after.kept_ids().tolist() == [1] and here.kept_ids().tolist() == [2, 5]
    after = here.begin(ids, torch.zeros(64))  # that one was broken off
    assert after.kept_ids().tolist() == [2, 5]
    assert there.top <= 3 + 3 + 1 + 2


def test_a_full_disk_ends_the_run_at_the_last_complete_round(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = simulation(rounds=6)
    want = [everything(plain) for _ in plain]
    sim = simulation(rounds=6, client_rows="disk", client_rows_folder=str(tmp_path))
    allocate, calls = os.posix_fallocate, []

    def full(*args: int) -> None:
        calls.append(args)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate(*args)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="client_rows: no room for .* the last complete round stays"):
        sim.run(progress=False)
    assert 0 < sim.round < 6
    pairs = zip(everything(sim), want[sim.round - 1], strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    monkeypatch.setattr(os, "posix_fallocate", allocate)  # there is room again
    sim.run(progress=False)
    assert equal(sim, plain)


def test_a_run_goes_on_from_a_state_of_another_tier(tmp_path: Path) -> None:
    plain = simulation("scaffold")
    plain.run(progress=False)
    first = simulation("scaffold", rounds=3)
    first.run(progress=False)
    first.save(tmp_path / "state")
    disk = dict(client_rows="disk", client_rows_folder=str(tmp_path))
    second = simulation("scaffold", **disk)
    second.load(tmp_path / "state")
    second.run(progress=False)
    assert equal(second, plain)
    second.save(tmp_path / "state")
    third = simulation("scaffold")
    third.load(tmp_path / "state")
    assert equal(third, plain)
    half = simulation("scaffold", client_rows_dtype="bfloat16")
    with pytest.raises(ValueError, match="client_rows_dtype"):
        half.load(tmp_path / "state")


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_client_rows import simulation
sim = simulation(rounds=50, client_rows="disk", client_rows_folder={folder!r})
for row in sim:
    sim.save({state!r})
    if row.round == 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_its_last_state_and_no_file_of_rows(tmp_path: Path) -> None:
    folder, state = tmp_path / "rows", tmp_path / "state"
    folder.mkdir()
    tests = str(Path(__file__).parent)
    text = KILLED.format(tests=tests, folder=str(folder), state=str(state))
    done = subprocess.run([sys.executable, "-c", text], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not list(folder.iterdir())
    sim, plain = simulation(), simulation()
    sim.load(state)
    assert sim.round == 3
    sim.run(progress=False)
    plain.run(progress=False)
    assert equal(sim, plain)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_file_of_rows_is_a_table(data: st.DataObject, tmp_path_factory) -> None:
    """Written and read in any order and number, in both dtypes, past the page cache or not."""
    width, rows = data.draw(st.sampled_from([1, 64, 1500])), 12
    stored = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
    file = FileRows(tmp_path_factory.mktemp("rows"), width, stored)
    if data.draw(st.booleans()):
        file._direct = row_memory._past_the_cache(file._file.fileno(), False)
    file.allocate(rows)
    table, mirror = MemoryRows(rows, width, stored, CPU), torch.zeros(rows, width)
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    for _ in range(4):
        places = torch.randperm(rows, generator=draw)[: data.draw(st.integers(1, rows))]
        if data.draw(st.booleans()):
            places = places.sort().values
        source = reserved((rows, pitch(width, torch.float32)), torch.float32, CPU)
        source.copy_(torch.randn(source.shape, generator=draw))
        at = torch.randperm(rows, generator=draw)[: len(places)]
        mirror[places] = source[at, :width].to(stored).float()
        for store in (file, table):
            store.write(places, source, at)
            back = torch.full_like(source, torch.nan)
            store.read(places, back, at)
            assert torch.equal(back[at, :width], mirror[places])


def test_rows_written_while_a_table_grows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a thread writes a round's rows when the next one takes more places than were reserved."""
    table = MemoryRows(4, 3, torch.bfloat16, CPU)
    rows, at = torch.arange(12.0).view(4, 3), torch.arange(4)
    write = threading.Thread(target=table.write, args=(at, rows, at))

    class Grown(Tensor):
        """Where the other thread writes as soon as the old rows are copied."""

        def __setitem__(self, key: object, value: Tensor) -> None:
            super().__setitem__(key, value)
            if write.ident is None:
                write.start()
                write.join(0.1)

    new = torch.zeros(10, 3, dtype=torch.bfloat16).as_subclass(Grown)
    monkeypatch.setattr(row_memory, "reserved", lambda *_: new)
    table.allocate(5)
    write.join()
    assert torch.equal(new.as_subclass(Tensor)[:4].float(), rows)


def test_a_larger_cohort_waits_for_rows_that_are_being_read(tmp_path: Path) -> None:
    """They would be read into tables that have another layout by then."""
    shape = RowShape({"c": 1}, torch.float32, CPU)
    tables = StagedTables(shape, RowTier("disk", cohort=2, folder=tmp_path))
    tables.allocate(12)
    where = torch.arange(1, 12)
    tables.write("c", where, where[:, None].float())
    started = threading.Event()
    tables._worker.submit(started.wait)
    tables.expect(torch.tensor([7, 8]))
    threading.Timer(0.05, started.set).start()
    _, kept = tables.begin(0, torch.zeros(8, dtype=torch.int64), where[:8])  # new clients
    tables.tables["c"][kept] = -1.0
    started.set()  # where the timer was slow
    tables._worker.submit(int).result()
    assert (tables.tables["c"][kept] == -1).all()


def test_rows_written_from_outside_are_those_that_a_cohort_comes_with(tmp_path: Path) -> None:
    """Not what was read ahead from their places, nor what the last round has left for them."""
    shape = RowShape({"c": 1}, torch.float32, CPU)
    tables = StagedTables(shape, RowTier("disk", cohort=5, folder=tmp_path))
    tables.allocate(12)
    where, none = torch.arange(1, 9), torch.zeros(2, dtype=torch.int64)
    tables.write("c", where, where[:, None].float())
    _, kept = tables.begin(0, none, torch.tensor([1, 2]))
    tables.tables["c"][kept] = torch.tensor([[-1.0], [-2.0]])
    tables.written(0, kept, torch.tensor([1, 2]))
    tables.expect(torch.tensor([4, 5, 6]))
    tables.write("c", torch.tensor([2, 5]), torch.tensor([[20.0], [50.0]]))
    came, _ = tables.begin(1, torch.tensor([1, 2, 4, 5, 6]), torch.arange(7, 12))
    assert tables.tables["c"][came][:, 0].tolist() == [-1.0, 20.0, 4.0, 50.0, 6.0]


@pytest.mark.parametrize("tier", ["disk", "host"])
def test_rows_that_move_between_processes_are_the_latest(tier: str, tmp_path: Path) -> None:
    """Three processes that fetch ahead, as a run's rounds do; against a dict."""
    where = RowTier(tier, torch.bfloat16, 9, 5, tmp_path if tier == "disk" else None)
    ranks = [ClientState({"c": "zeros"}, {}, 9, torch.zeros(8), 8, where) for _ in range(3)]
    draw, owner, mirror = np.random.default_rng(0), np.full(9, -1), np.zeros(9)
    cohorts = [draw.choice(9, 4, replace=False) for _ in range(121)]
    for t, (ids, following) in enumerate(itertools.pairwise(cohorts)):
        to = draw.integers(0, 3, 4)
        sent = {(a, b): ids[(owner[ids] == a) & (to == b)] for a in range(3) for b in range(3)}
        rows = {pair: ranks[pair[0]].export(torch.from_numpy(who)) for pair, who in sent.items()}
        for b, state in enumerate(ranks):
            mine, came = ids[to == b], [a for a in range(3) if a != b]
            own = torch.from_numpy(mine)
            moved = np.concatenate([sent[a, b] for a in came])
            new = {"c": torch.cat([rows[a, b][0]["c"] for a in came])}
            state.adopt(torch.from_numpy(moved), new, {})
            after = state.begin(own, torch.zeros(8))
            after.drop(torch.from_numpy(ids[(owner[ids] == b) & (to != b)]))
            state.expect(torch.from_numpy(following))
            found, kept = after.placed(own, torch.zeros(2, len(own), dtype=torch.int64))
            assert found["c"].gathered()[:, 0].tolist() == mirror[mine].tolist()
            mirror[mine] = 1 + (9 * t + mine) % 256  # exact in bfloat16
            kept["c"].copy_(torch.from_numpy(mirror[mine]).float()[:, None].expand(-1, 8))
            after.scatter(own, {}, {})
            ranks[b] = after
        owner[ids] = to


def test_a_folder_for_rows_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(ValueError, match=f"client_rows_folder: expected .*; got {folder}"):
            simulation(client_rows="disk", client_rows_folder=str(folder))


def test_what_a_file_of_small_rows_takes_is_what_is_said(tmp_path: Path) -> None:
    sim = simulation(client_rows="disk", client_rows_folder=str(tmp_path), rounds=30)
    sim.run(progress=False)
    (store,) = sim._engine.clients._store.tables.stores.values()
    taken = os.fstat(store._file.fileno()).st_blocks * 512
    # Beside the rows the file system may need a block for the list of where they lie.
    assert 0.9 * sim.rows.kept <= taken <= sim.rows.kept + os.fstat(store._file.fileno()).st_blksize
    assert row_tiers.binary_size(sim.rows.kept) in str(sim.rows)


def need(**kwargs: object) -> RowNeed:
    """1000 clients in 10 rounds of 10, of 4 KiB each; room for all on a GPU."""
    given = dict(widths={"c": 1024}, dtype=torch.float32, device=torch.device("cuda"))
    given |= dict(population=1000, rounds=10, cohort=10, expected=90, free=1 << 30)
    return RowNeed(**(given | kwargs))


def test_auto_takes_the_first_tier_with_room_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept, work = (90 + 10 + 1) * 4096, 23 * 4096  # new rows of two rounds, one that comes back
    assert row_tiers.choose("auto", None, tmp_path, need()).kept == kept
    fits = row_tiers.choose("auto", None, tmp_path, need(free=kept))
    assert (fits.name, fits.work, fits.on_device) == ("device", 0, kept)
    host = row_tiers.choose("auto", None, tmp_path, need(free=kept - 1))
    assert (host.name, host.work, host.on_device) == ("host", work, work)
    assert "kept in main memory" in str(host) and "KiB of memory on cuda" in str(host)
    monkeypatch.setattr(row_tiers, "available_memory", lambda: kept)
    disk = row_tiers.choose("auto", None, tmp_path, need(free=kept - 1))
    assert disk.name == "disk" and f"on disk in {tmp_path}" in str(disk)
    half = row_tiers.choose("auto", torch.bfloat16, tmp_path, need())
    assert half.kept == kept // 2 and half.work == work + 10 * 4096
    small = row_tiers.choose("auto", None, tmp_path, need(free=kept - 1, device=CPU))
    assert small.name == "disk"
    with pytest.raises(ValueError, match=r"client_rows: expected room for 404 KiB .*fewer rounds"):
        row_tiers.choose("host", None, tmp_path, need())
    with pytest.raises(ValueError, match="client_rows_folder: expected .*nowhere"):
        row_tiers.choose("disk", None, tmp_path / "nowhere", need())


def test_too_little_is_said_before_training() -> None:
    plan = simulation(memory=1.0).memory
    short = (plan.fixed + plan.each - 1) / memory.GIB
    with pytest.raises(ValueError, match=r"client_rows: expected room for .*KiB of float32"):
        simulation(client_rows="device", memory=short)
    with pytest.raises(ValueError, match="client_rows: unknown name 'desk'"):
        simulation(client_rows="desk")
    with pytest.raises(ValueError, match="client_rows_dtype"):
        simulation(client_rows_dtype="float16")
    with pytest.raises(TypeError, match="client_rows_folder: expected the name of a folder"):
        simulation(client_rows_folder=3)


@pytest.mark.parametrize("most", [12288, 4096])
def test_tables_grow_where_they_cannot_be_reserved_whole(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = simulation()
    plain.run(progress=False)
    made, refused = row_memory._anonymous, []

    def anonymous(size: int) -> object:
        if size > most and len(refused) < 2:
            refused.append(size)
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return made(size)

    monkeypatch.setattr(row_memory, "_anonymous", anonymous)
    if most == 4096:
        with pytest.raises(MemoryError, match="of address space"):
            simulation()
    sim = simulation()
    sim.run(progress=False)
    assert refused and equal(sim, plain)


def test_a_client_that_was_never_sampled_costs_nothing() -> None:
    clients = ClientState({"c": "zeros"}, {}, 10**6, torch.zeros(4096), 4096)
    before = resident()
    for t in range(20):
        ids = torch.arange(10) + 1000 * t
        after = clients.begin(ids, torch.zeros(4096))
        after.scatter(ids, {"c": torch.ones(10, 4096)}, {})
        clients = after
    rows = 200 * 4096 * 4
    assert resident() - before < rows + (6 << 20)  # of 16 GB that all clients' would take
    assert isinstance(after.placed(ids, torch.zeros(2, 10, dtype=torch.int64))[0]["c"], PlacedRows)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
