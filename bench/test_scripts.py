"""The benchmarks that are scripts, on the smallest sizes, with `--smoke` only."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import bench_before
import bench_cohort
import bench_eigenvalues
import bench_ensemble
import bench_hessian
import bench_landscape
import bench_memory
import bench_peers
import bench_population
import bench_roofline
import bench_round
import bench_round_cost
import bench_schedule
import bench_start
import bench_uneven
import gpu
import power_iteration
import pytest
import result_files
import sizes
import torch
from fedfast.kernels.declaration import OPERATIONS

TRIALS = {"tried", "refused"}
pytestmark = pytest.mark.skipif(not sizes.SMOKE, reason="runs with --smoke only")


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows go here, not to the committed files."""
    monkeypatch.setattr(result_files, "RESULTS", tmp_path)
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rounds_beside_other_simulators(results: Path) -> None:
    bench_round.main(["--only", "W2", "--rounds", "1", "--threads", "1", "--write"])
    written = [(row["algorithm"], row["contestant"]) for row in rows(results / "round.csv")]
    plain = [("fedavg", name) for name in ("fedfast", "typical", "tuned", "vmap")]
    assert written == plain + [("fedsam", name) for name in ("fedfast", "typical", "tuned")]


def test_rounds_of_growing_cohorts(results: Path) -> None:
    bench_round.main(["--scaling", "--threads", "1", "--write"])
    assert [row["clients"] for row in rows(results / "round.csv")] == ["2", "4"]


def test_a_step_beside_its_limits(results: Path) -> None:
    bench_roofline.main(["--only", "W2", "--write"])
    names = [row["operation"] for row in rows(results / "roofline.csv")]
    assert names[-1] == "round"
    assert sum(name.endswith("linear_backward") for name in names) == 2


def test_rounds_beside_another_tree(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_before, "ROUNDS", {("W2", "fedavg"): 1})
    bench_before.main([str(Path(__file__).parents[1]), "--write"])
    assert [row["workload"] for row in rows(results / "before.csv")] == ["W2"]


def test_memory_beside_its_plan(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_memory, "CASES", (("mlp", "fedavg", 4, 2, "auto"),))
    bench_memory.main([])
    assert [row["clients"] for row in rows(results / "memory.csv")] == ["4"]


def test_a_cohort_beside_a_simulation(results: Path) -> None:
    bench_cohort.main(["--only", "W2", "--rounds", "1", "--threads", "1", "--write"])
    assert [row["workload"] for row in rows(results / "cohort.csv")] == ["W2"]


def test_a_landscape_beside_a_script(results: Path) -> None:
    bench_landscape.main(["--write"])
    assert [row["grid"] for row in rows(results / "landscape.csv")] == ["3"]


def test_products_with_hessians(results: Path) -> None:
    bench_hessian.main(["--threads", "1", "--write"])
    assert [row["workload"] for row in rows(results / "hessian.csv")] == ["W2"]


def test_eigenvalues_beside_power_iteration(results: Path) -> None:
    bench_eigenvalues.main(["--threads", "1", "--top", "1", "--write"])
    (row,) = rows(results / "eigenvalues.csv")
    assert float(row["fedfast_error"]) < 1e-3 and float(row["kept_error"]) < 0.1


def test_power_iteration_finds_the_largest_magnitudes() -> None:
    basis = torch.linalg.qr(torch.randn(9, 9, generator=torch.Generator().manual_seed(0)))[0]
    matrix = basis @ torch.diag(torch.tensor([5.0, -3, 2, 1, 0.5, 0, 0, 0, 0])) @ basis.T

    def product(v: list[torch.Tensor]) -> list[torch.Tensor]:
        return list((matrix @ torch.cat(v)).split([4, 5]))

    values, products = power_iteration.largest(product, [torch.zeros(4), torch.zeros(5)], 3, 1e-6)
    assert values == pytest.approx([5, -3, 2], rel=1e-3) and products < 100


def test_an_ensemble_beside_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "compile", lambda step, **options: step)  # takes half a minute
    bench_ensemble.main(["--threads", "1", "--batches", "2", "--rounds", "1"])
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(bench_ensemble.OPTIMIZERS)


def test_rounds_beside_peers(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_peers, "ROOT", results)
    given = ["--contestants", "fedfast,typical", "--workloads", "W2", "--algorithms", "fedavg"]
    bench_peers.main([*given, "--rounds", "1"])
    table = capsys.readouterr().out
    assert "failed" not in table and "typical" in table


def test_unlike_clients_beside_equal_ones(results: Path) -> None:
    cases = "mlp-fedavg,cnn-augmented,cnn-module"
    bench_uneven.main(["--only", cases, "--rounds", "1", "--threads", "1", "--write"])
    assert [row["case"] for row in rows(results / "uneven.csv")] == cases.split(",")


def test_draws_beside_numpy(results: Path) -> None:
    bench_schedule.main(["--write"])
    assert len(rows(results / "schedule.csv")) == 4


def test_the_time_until_the_first_round(results: Path) -> None:
    bench_start.main(["--write"])
    (row,) = rows(results / "start.csv")
    assert float(row["torch_s"]) > float(row["later_s"]) > 0


def test_the_cost_of_rounds(results: Path) -> None:
    bench_round_cost.main(["--write"])
    found = [(row["population"], row["cohort"]) for row in rows(results / "round_cost.csv")]
    assert found == [("10", "1"), ("10", "2"), ("10", "2"), ("20", "2")]
    (fixed,) = rows(results / "round_fixed.csv")
    assert float(fixed["median_ms"]) >= float(fixed["least_ms"]) > 0


def test_what_the_number_of_clients_costs(results: Path) -> None:
    given = ["--only", "builds", "--only", "rounds", "--clients", "200", "400", "--turns", "1"]
    bench_population.main([*given, "--write"])
    written = rows(results / "population.csv")
    assert {row["kind"] for row in written} == {"build", "round"}
    assert {row["clients"] for row in written} == {"200", "400"}


def test_predicted_rounds_are_the_pages() -> None:
    """In a process in which Triton is interpreted."""
    script = Path(__file__).with_name("gpu_prediction.py")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    page = (script.parents[1] / "docs" / "gpu.md").read_text(encoding="utf-8")
    tables = done.stdout.strip().split("\n\n")
    assert len(tables) == 2 and all(table in page for table in tables)


def test_the_campaign_is_rehearsed(tmp_path: Path) -> None:
    """Every section runs to its end without a GPU, and no row holds a time or a rate."""
    script = Path(__file__).with_name("gpu.py")
    command = [sys.executable, str(script), "--rehearse", "--out", str(tmp_path)]
    command += ["--budget", "2400"]  # nothing is timed, and the machine may be busy
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    found = rows(tmp_path / "gpu.csv")
    assert {row["run"] for row in found} == {"rehearsal"}
    ended = {row["section"]: row["value"] for row in found if row["measure"] == "section"}
    assert ended == dict.fromkeys(gpu.SHARES, "done")
    assert [row for row in found if row["measure"] == "failed"] == []
    units = {"s", "ms", "us", "min", "GB/s", "TFLOP/s", "1/s", "times", "of round"}
    timed = [row for row in found if row["unit"] in units]
    assert timed and {row["value"] for row in timed} == {""}
    checked = [row for row in found if row["unit"] == "of bar"]
    assert len(checked) == 2 * len(OPERATIONS) and all(float(row["value"]) <= 1 for row in checked)
    tried = {row["measure"]: row["value"] for row in found if row["measure"] in TRIALS}
    assert tried == {"tried": "alike"} and not (tmp_path / "choices.csv").exists()
