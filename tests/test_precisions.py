"""The option `precision`: what "auto" is where, what goes on as the same run, who says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from federation import federation, mlp
from fedfast.kernels import _args, choices
from fedfast.kernels.library import settings
from run_folders import history, write_run

import fedfast
from fedfast import precisions
from fedfast.cli import main
from fedfast.run_records import groups, records
from fedfast.runs import about

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
QUICKSTART = str(Path(__file__).parent.parent / "examples" / "quickstart.yaml")


def simulation(**options):
    return fedfast.Simulation(mlp(), federation([9, 5]), **dict(rounds=2) | options)


def test_the_words_are_the_kernels_and_auto():
    assert precisions.CHOICES == ("auto", *_args.PRECISIONS)
    assert set(precisions.FLOAT32) < set(_args.PRECISIONS)
    assert {*_args.PRECISIONS, "fp64"} - {"bf16"} == set(choices.PRECISIONS)


def test_no_library_rounds_where_results_are_float32s():
    for precision in precisions.FLOAT32:
        with settings.rounding(precision):
            assert not torch.backends.cuda.matmul.allow_tf32
            assert not torch.backends.cudnn.allow_tf32


def test_auto_is_three_products_on_cuda_and_float32_on_a_cpu():
    assert precisions.chosen("auto", CUDA) == "tf32x3" and precisions.chosen("auto", CPU) == "fp32"
    for word in _args.PRECISIONS:
        assert precisions.chosen(word, CUDA) == precisions.chosen(word, CPU) == word


@pytest.mark.parametrize("a", precisions.CHOICES)
@pytest.mark.parametrize("b", precisions.CHOICES)
def test_words_are_alike_that_mean_float32(a, b):
    assert precisions.alike(a, b) == (a == b or {a, b} <= {"auto", "fp32", "tf32x3"})


def test_a_simulation_says_which_is_in_force():
    assert simulation().precision == "fp32"
    assert simulation(precision="tf32").precision == "tf32"
    double = fedfast.Simulation(mlp(dtype=torch.float64), federation([9]), dtype=torch.float64)
    assert double.precision == "fp64"
    assert "precision" in simulation()._repr_html_()


def test_on_a_gpu_it_is_three_products(monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed on this platform")
    from emulated_cuda import Device
    from emulated_graphs import Graphs

    from fedfast import fusion_rules
    from fedfast.programs import evaluator

    device = Device(False)
    for module in (fusion_rules, evaluator):
        monkeypatch.setattr(module, "CudaRecorder", lambda: Graphs(device))
    with device.on():
        sim = simulation(device="cuda:0", verify=False)
        assert sim.precision == "tf32x3"
        assert simulation(device="cuda:0", verify=False, precision="fp32").precision == "fp32"


@pytest.mark.parametrize("word", ["fp32", "tf32x3"])
def test_a_run_goes_on_under_another_word_for_float32(word, tmp_path):
    """As one does that began on a GPU and goes on on a CPU, where the bits are the same anyway."""
    begun = simulation(precision=word)
    next(iter(begun))
    begun.save(tmp_path / "state.pt")
    for other in ("auto", *precisions.FLOAT32):
        sim = simulation(precision=other)
        sim.load(tmp_path / "state.pt")
        assert sim.round == 1
    with pytest.raises(ValueError, match=f"precision bf16, found {word}"):
        simulation(precision="bf16").load(tmp_path / "state.pt")


def test_an_ensemble_has_the_same_choice():
    assert fedfast.Ensemble(mlp(), 2)._options.precision == "fp32"
    with pytest.raises(ValueError, match="precision: unknown name .fp16.*auto, bf16, fp32"):
        fedfast.Ensemble(mlp(), 2, precision="fp16")


def test_doctor_and_run_json_say_it(capsys, tmp_path):
    assert main(["doctor", QUICKSTART, "--precision", "tf32"]) == 0
    assert "precision of products: tf32\n" in capsys.readouterr().out
    sim = simulation()
    assert about.begun(about.About(), sim).precision == "fp32"
    old = {"labels": {"fedavg": {"seconds": 1.0, "device": "a chip"}}}
    (tmp_path / about.NAME).write_text(json.dumps(old))
    assert about.read(tmp_path)["fedavg"].precision == ""


def test_a_run_folder_takes_another_word_and_is_compared_as_the_same(capsys, tmp_path):
    run = ["run", QUICKSTART, "--out", str(tmp_path / "a")]
    assert main([*run, "--rounds", "1", "--precision", "fp32"]) == 0
    run.append("--resume")
    assert main([*run, "--rounds", "2"]) == 0
    assert main([*run, "--rounds", "3", "--precision", "bf16"]) == 2
    assert "precision" in capsys.readouterr().err


def test_runs_under_words_for_float32_are_compared_as_one(tmp_path):
    for seed, word in enumerate(precisions.CHOICES):
        run = {"fedavg": history([0.1, 0.2])}
        write_run(tmp_path / word, run, seed=seed, precision=word)
    found = groups(records([tmp_path]))
    assert {name: len(runs) for name, runs in found.items()} == {
        "fedavg precision=float32": 3,
        "fedavg precision=tf32": 1,
        "fedavg precision=bf16": 1,
    }
