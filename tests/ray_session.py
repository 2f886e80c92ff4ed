"""What tests/test_ray.py runs on one local Ray cluster, in a process of its own."""

import os
import signal
import threading
import time
from pathlib import Path

import ray

from fedfast.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started us with &
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
ray.shutdown_now, ray.shutdown = ray.shutdown, lambda: None  # one cluster for all three
ray.init = lambda *_, **__: None


def interrupt():
    """Ctrl-C once both rows have done some rounds."""
    rows = [Path(f"stopped/{label}/seed-0/history.csv") for label in ("fedavg", "sharp")]
    while not all(row.exists() and len(row.read_text().splitlines()) > 3 for row in rows):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


grid = ["--grid", "algorithms.sharp.rho=0.1,0.3", "--out", "swept"]
assert main(["sweep", "tiny.yaml", *grid, "--launcher", "ray"]) == 1
size = ["--clients", "50", "--cohort", "5", "--held-out", "0", "--rounds", "2", "--seconds", "0.1"]
study = ["--algorithms", "fedavg", "--out", "scaled", "--launcher", "ray"]
assert main(["scale", "tiny.yaml", *size, *study]) == 0
threading.Thread(target=interrupt, daemon=True).start()
long = ["--seeds", "0", "--rounds", "1000", "--out", "stopped", "--launcher", "ray"]
assert main(["sweep", "tiny.yaml", *long]) == 130
ray.shutdown_now()
