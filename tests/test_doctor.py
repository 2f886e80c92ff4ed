"""`fedfast doctor`: the machine, and a model layer by layer."""

from pathlib import Path

from fedfast.cli import main

QUICKSTART = str(Path(__file__).parent.parent / "examples" / "quickstart.yaml")


def test_without_a_config_it_tells_of_the_machine(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert all(said.count(f"{part} ") for part in ("python", "torch", "native", "triton", "gpu"))


def test_a_model_that_becomes_a_program(capsys):
    assert main(["doctor", QUICKSTART]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "layer program, K = 20 clients at once"
    assert lines[-2] == "precision of products: fp32"
    assert lines[-3].startswith("memory: K = 20 of 20 clients at once, ")
    assert "fc1       ok" in lines


def test_where_rows_of_stateful_clients_are_kept(capsys, tmp_path):
    given = ["--rounds", "3", "--client_rows", "disk", "--client_rows_folder", str(tmp_path)]
    config = tmp_path / "config.yaml"
    text = Path(QUICKSTART).read_text(encoding="utf-8")
    config.write_text(text.replace("fedavg: {}", "fedavg: {}\n  scaffold: {}"), encoding="utf-8")
    assert main(["doctor", str(config), *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    [said] = [line for line in lines if "client rows" in line]
    # 20 of 50 clients a round: 1 - 0.6^2 of them before the third
    assert said.startswith("scaffold: client rows: ") and "rows of 32 of 50 clients" in said
    assert f"kept on disk in {tmp_path}" in said
    wrong = str(tmp_path / "none")
    assert main(["doctor", str(config), *given[:-1], wrong]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fedfast: client_rows_folder: expected a folder") and wrong in said


HALVING = """
from fedfast.algorithms import FedAvg

class Halving(FedAvg):
    def after_step(self, at):
        at.w.mul_(0.5)
"""


def test_why_steps_are_no_graphs_on_cuda(capsys, tmp_path, monkeypatch):
    config = tmp_path / "config.yaml"
    text = Path(QUICKSTART).read_text(encoding="utf-8")
    own = "fedavg: {}\n  halving: {name: halving:Halving}"
    config.write_text(text.replace("fedavg: {}", own), encoding="utf-8")
    (tmp_path / "halving.py").write_text(HALVING, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["doctor", str(config)]) == 0
    [said] = [line for line in capsys.readouterr().out.splitlines() if "no graph" in line]
    assert said.startswith("halving: on CUDA no graph of a step: after_step of Halving is code of")


def test_the_gpus_backend_has_layer_programs_too(capsys):
    assert main(["doctor", QUICKSTART, "--backend", "triton"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("layer program, K = ")


def test_a_bad_config_is_refused(capsys):
    assert main(["doctor", QUICKSTART, "--memory", "1e-6"]) == 2
    assert "memory: expected at least" in capsys.readouterr().err
    assert main(["doctor", QUICKSTART, "--augment", "crop-flip"]) == 2
    assert "augment: expected images of bytes" in capsys.readouterr().err
    assert main(["doctor", QUICKSTART, "--lr", "-1"]) == 2
    assert "--lr: expected a number greater than 0" in capsys.readouterr().err
