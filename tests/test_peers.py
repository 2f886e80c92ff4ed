"""The comparison with other simulators: its protocol, and its check that all do equal work."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
import bench_peers  # noqa: E402
import result_files  # noqa: E402
from peers import native, page, protocol, scripts, table  # noqa: E402
from peers.contestant import Player  # noqa: E402
from peers.environments import Contestant, Unavailable, interpreter  # noqa: E402
from peers.task_files import ALGORITHMS, write_task  # noqa: E402
from workloads import Workload  # noqa: E402

TINY = Workload("W2", "mlp", (1, 4, 4), 6, 8, 3, 4, 3)
FEDFAST, TYPICAL, VMAP = (
    Contestant("fedfast", "fedfast", ("native",)),
    Contestant("typical", "a typical torch script", ("scripts", "typical"), settings=("1 thread",)),
    Contestant("vmap", "torch vmap", ("scripts", "vmap")),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The task's files: a round that warms up, and three more."""
    return write_task(TINY, 4, tmp_path_factory.mktemp("task"))


def replies(task, rounds, change=lambda reply: reply):
    """What a contestant answers in rounds 1 to 3."""
    return [change(protocol.timed(task, rounds, t)) for t in range(4)][1:]


def verdict(taken, ours, contestant=TYPICAL, algorithm="fedavg"):
    """The table's word on a contestant's work beside fedfast's."""
    players = [SimpleNamespace(contestant=c, versions={}) for c in (FEDFAST, contestant)]
    found = {"fedfast": ours, contestant.name: taken}
    return table.rows(TINY, algorithm, players, found, {}, {}, 0.0)[1].work


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_fedfast_and_the_scripts_do_equal_work(folder, algorithm):
    task = protocol.Task(str(folder))
    ours = replies(task, native.NativeRounds(task, algorithm, "1 thread"))
    for kind, setting in (("typical", "1 thread"), ("tuned", "2 workers x 1 thread")):
        loop = scripts.loop(kind, task, algorithm, setting)
        taken = replies(task, scripts.ScriptRounds(task, loop))
        assert verdict(taken, ours, algorithm=algorithm) == "equal"
    assert [(r["clients"], r["samples"], r["steps"]) for r in taken] == [(3, 24, 6)] * 3


def test_less_work_or_other_work_is_found(folder):
    task = protocol.Task(str(folder))
    ours = replies(task, native.NativeRounds(task, "fedavg", "1 thread"))
    script = scripts.ScriptRounds(task, scripts.loop("typical", task, "fedavg", "1 thread"))
    other = replies(task, script, lambda reply: reply | {"steps": reply["steps"] - 1})
    assert verdict(other, ours) == "unequal"
    longer = scripts.ScriptRounds(task, scripts.loop("typical", task, "fedavg", "1 thread"))
    longer.loop.lr *= 1.01
    taken = replies(task, longer)
    assert verdict(taken, ours) == "unequal"
    declared = replace(TYPICAL, variants={"fedavg": "its learning rate is another"})
    assert verdict(taken, ours, declared) == "variant"


def test_a_contestant_answers_in_a_process_of_its_own(folder):
    player = Player(TYPICAL, folder)
    try:
        player.greet()
        assert player.versions["torch"]
        assert player.start("fedavg", "1 thread") == ""
        found = [player.round(t) for t in range(2)]
        task = protocol.Task(str(folder))
        same = scripts.ScriptRounds(task, scripts.loop("typical", task, "fedavg", "1 thread"))
        expected = [protocol.timed(task, same, t)["update_norm"] for t in range(2)]
        assert [reply["update_norm"] for reply in found] == pytest.approx(expected, rel=1e-6)
        with pytest.raises(Unavailable, match="IndexError"):
            player.round(99)
    finally:
        player.close()


def test_what_cannot_start_says_why(folder):
    with pytest.raises(Unavailable, match="needs Python 9.9"):
        interpreter(replace(TYPICAL, packages=("numpy",), python=("9.9",)))
    with pytest.raises(Unavailable, match="no_such_package is not installed"):
        interpreter(replace(TYPICAL, needs=("no_such_package",)))


def test_page_shows_figures_and_reasons(tmp_path, monkeypatch):
    monkeypatch.setattr(result_files, "RESULTS", tmp_path)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    monkeypatch.setattr(page, "DOCS", tmp_path)
    players = [SimpleNamespace(contestant=c, versions={"torch": "2"}) for c in (FEDFAST, TYPICAL)]
    reply = {"clients": 3, "samples": 24, "steps": 6, "update_norm": 1.0}
    found = {
        "fedfast": [reply | {"seconds": 0.5}],
        "typical": [reply | {"seconds": 2.0}],
    }
    rows = table.rows(TINY, "fedavg", players, found, {}, {}, 0.25)
    rows += table.absent(TINY, "fedavg", [VMAP], {"vmap": "skipped: needs Python 3.14"})
    result_files.append("peers", *map(vars, rows))
    (tmp_path / "benchmarks.md").write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.write()
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| a typical torch script | 2.00 (4.0 ×) |" in text and "old" not in text
    assert "torch vmap, compiled skipped: needs Python 3.14" in text
    assert text.startswith("before\n") and text.endswith("after\n")
    assert (tmp_path / "peers.png").stat().st_size > 1000


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        bench_peers.main(["--contestants", "flwr"])
    assert "unknown flwr; known: fedfast, " in capsys.readouterr().err.replace(",", ", ")
