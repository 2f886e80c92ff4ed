"""Runs on disk: every layout is read, what is damaged is left out, names of groups are unique."""

import json
import warnings

import pytest
from run_folders import history, write_run, write_table_row

from fedfast.run_names import display_names
from fedfast.run_records import groups, records

SHORT = history([0.1, 0.2])
LONG = history([0.1, 0.2, 0.3, 0.4])


def found(paths):
    return [(r.folder.name, r.label, r.seed, len(r.history), r.status) for r in records(paths)]


def test_a_run_folder_has_a_record_per_label(tmp_path):
    run = write_run(tmp_path / "run", {"fedavg": LONG, "fedsam": SHORT}, seed=3)
    one, two = records([run])
    assert (one.label, one.seed, one.status, one.device) == ("fedavg", 3, "done", "")
    assert (two.label, two.status, two.seconds) == ("fedsam", "unfinished", 1.0)
    assert one.history.csv() == LONG.csv() and one.config.rounds == 4
    assert two.options["algorithm.rho"] == 0.1 and two.options["partition.alpha"] == 0.3
    assert not {"seed", "out", "device", "algorithm.label"} & set(two.options)


def test_run_json_says_what_it_ran_on(tmp_path):
    run = write_run(tmp_path, {"fedavg": SHORT, "fedsam": LONG})
    about = {"fedavg": {"seconds": 7, "ended": "no gain", "done": True, "device": "GPU 0"}}
    (run / "run.json").write_text(json.dumps({"labels": about}))
    one, two = records([run])
    assert (one.seconds, one.device, one.status) == (7.0, "GPU 0", "stopped")
    assert one.reason == "no gain"
    assert (two.seconds, two.device, two.status) == (2.0, "", "done")


def test_a_sweep_and_rows_of_older_versions_are_found_in_order(tmp_path):
    for seed in (10, 2):
        write_run(tmp_path / "sweep" / "fedavg" / f"seed-{seed}", {"fedavg": LONG}, seed=seed)
        write_table_row(tmp_path / "paper" / "fedsam" / f"seed-{seed}", "fedsam", LONG, seed=seed)
    (tmp_path / "sweep" / "config.yaml").write_text("sweep: {seeds: [2, 10]}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs = records([tmp_path])
    assert [(r.label, r.seed) for r in runs] == [
        ("fedsam", 2),
        ("fedsam", 10),
        ("fedavg", 2),
        ("fedavg", 10),
    ]
    assert (runs[0].seconds, runs[0].device) == (12.5, "a chip")


def test_a_run_killed_while_writing_is_read_up_to_its_last_whole_line(tmp_path):
    run = write_run(tmp_path, {"fedavg": LONG})
    whole = (run / "history.csv").read_bytes()
    (run / "history.csv").write_bytes(whole[:-20])
    assert found([run]) == [(tmp_path.name, "fedavg", 0, 3, "unfinished")]


@pytest.mark.parametrize(
    ("file", "text", "match"),
    [
        ("history.csv", "round,accuracy\n1,0.5\n", "columns"),
        ("history.csv", None, "has not begun"),
        ("config.yaml", "rounds: [", "YAML syntax"),
        ("config.yaml", None, "cannot be read"),
        ("run.json", "{", "JSON"),
        ("run.json", '{"labels": []}', "expected labels"),
    ],
)
def test_damaged_folders_are_named_and_left_out(tmp_path, file, text, match):
    write_run(tmp_path / "good", {"fedavg": LONG})
    bad = write_run(tmp_path / "bad", {"fedavg": LONG}, seed=1)
    if text is None:
        (bad / file).unlink()
    else:
        (bad / file).write_text(text)
    with pytest.warns(UserWarning, match=match) as caught:
        assert found([tmp_path]) == [("good", "fedavg", 0, 4, "done")]
    assert [str(bad) in str(one.message) for one in caught] == [True]
    assert "\n" not in str(caught[0].message) and "Errno" not in str(caught[0].message)
    with pytest.raises(ValueError, match=match):
        records([bad])


def test_labels_without_rounds_are_named(tmp_path):
    write_run(tmp_path, {"fedavg": LONG, "fedsam": history([])})
    with pytest.warns(UserWarning, match="fedsam: no round yet"):
        assert [label for _, label, *_ in found([tmp_path])] == ["fedavg"]


def test_paths_without_runs_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path, what in ((tmp_path, "found none"), (tmp_path / "file", "a file")):
        with pytest.raises(ValueError, match=f"{path}.*{what}"):
            records([path])
    with pytest.raises(ValueError, match="found nothing"):
        records([tmp_path / "nowhere"])


def test_repetitions_count_once(tmp_path):
    write_run(tmp_path / "run", {"fedavg": SHORT})
    write_run(tmp_path / "run-2", {"fedavg": LONG}, device="cpu", threads=1)
    with pytest.warns(UserWarning, match=r"run: fedavg: repeats .*run-2, seed 0"):
        assert found([tmp_path]) == [("run-2", "fedavg", 0, 4, "done")]
    assert len(records([tmp_path / "run", tmp_path / "run"])) == 1


def names(tmp_path, *runs):
    for i, (label, options, fields) in enumerate(runs):
        write_run(tmp_path / f"{i}", {label: LONG}, algorithms={label: options}, **fields)
    return {name: [r.seed for r in of] for name, of in groups(records([tmp_path])).items()}


def dirichlet(alpha):
    return {"partition": {"name": "dirichlet", "clients": 10, "alpha": alpha}}


def test_groups_over_seeds_have_the_label_as_name(tmp_path):
    runs = [(label, {}, {"seed": s}) for s in (0, 1) for label in ("fedavg", "fedsam")]
    assert names(tmp_path, *runs) == {"fedavg": [0, 1], "fedsam": [0, 1]}


def test_groups_name_the_options_that_differ(tmp_path):
    runs = [
        ("fedavg", {}, dirichlet(0.1)),
        ("fedavg", {}, dirichlet(1.0)),
        ("fedsam", {"rho": 0.05}, dirichlet(0.1)),
        ("fedsam", {"rho": 0.1}, dirichlet(0.1)),
    ]
    assert list(names(tmp_path, *runs)) == [
        "fedavg alpha=0.1",
        "fedavg alpha=1.0",
        "fedsam rho=0.05 alpha=0.1",
        "fedsam rho=0.1 alpha=0.1",
    ]


def test_groups_name_sections_and_tell_equal_words_apart(tmp_path):
    runs = [
        ("fedcm", {"alpha": 0.1}, dirichlet(0.1)),
        ("fedcm", {"alpha": 0.01}, dirichlet(1.0)),
        ("fedavg", {}, {"partition": {"name": "iid", "clients": 10}}),
        ("fedavg", {}, dirichlet(1.0)),
    ]
    assert list(names(tmp_path, *runs)) == [
        "fedcm algorithm.alpha=0.1 partition=dirichlet partition.alpha=0.1",
        "fedcm algorithm.alpha=0.01 partition=dirichlet partition.alpha=1.0",
        "fedavg partition=iid",
        "fedavg partition=dirichlet partition.alpha=1.0",
    ]


def test_groups_that_share_every_value_are_numbered():
    assert display_names([("own", {"a": 1}), ("own", {}), ("other", {})]) == [
        "own #1",
        "own #2",
        "other",
    ]


def test_groups_by_a_schedule_or_a_number(tmp_path):
    cosine = {"name": "cosine", "start": 0.1, "rounds": 4}
    got = names(tmp_path, ("fedavg", {}, {"lr": 0.1}), ("fedavg", {}, {"lr": cosine}))
    assert next(iter(got)) == "fedavg lr=0.1" and "lr=cosine(start=0.1,rounds=4" in list(got)[1]
