"""A workload as files: samples, initial model, cohorts and batches for all contestants alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from workloads import LR, RHO, Workload

ALGORITHMS = ("fedavg", "fedprox", "scaffold", "fedsam")
MU = 0.1  # of FedProx


def write_task(workload: Workload, rounds: int, folder: Path) -> Path:
    """The files that `protocol.Task` reads; whole epochs, so that only equal batches occur."""
    folder.mkdir(parents=True, exist_ok=True)
    data, steps = workload.data(), workload.samples // workload.batch
    draw = np.random.default_rng(0)
    cohorts = np.stack(
        [draw.permutation(workload.clients)[: workload.cohort] for _ in range(rounds)]
    )
    epochs = np.argsort(draw.random((rounds, workload.cohort, workload.samples)), axis=2)
    kept = epochs[:, :, : steps * workload.batch]
    batches = kept.reshape(rounds, workload.cohort, steps, workload.batch)
    arrays = {"x": data.x.numpy(), "y": data.y.numpy(), "cohorts": cohorts, "batches": batches}
    weights = [p.detach().numpy() for p in workload.module().parameters()]
    arrays |= {f"weight{i}": value for i, value in enumerate(weights)}
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", value)
    (folder / "task.json").write_text(
        json.dumps(
            {
                "model": workload.model,
                "shape": workload.shape,
                "clients": workload.clients,
                "samples": workload.samples,
                "cohort": workload.cohort,
                "batch": workload.batch,
                "weights": len(weights),
                "lr": LR,
                "mu": MU,
                "rho": RHO,
            }
        )
    )
    return folder
